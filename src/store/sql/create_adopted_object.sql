-- create_adopted_object: a payload as the log takes it: the JSON object that a text is, or one around whatever else it is. Never fails, because
-- that would fail the transaction of an application that never asked for JSON. {schema}.
create or replace function {schema}.adopted_object(value text) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    parsed json;
begin
    parsed := value::json;
    if json_typeof(parsed) = 'object' then
        return parsed;
    end if;
    return json_build_object('value', parsed);
exception when data_exception or program_limit_exceeded then
    return json_build_object('value', value);
end $$
