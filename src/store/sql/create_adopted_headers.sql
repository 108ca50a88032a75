-- create_adopted_headers: headers as the log takes them, and none where there are none. Never fails. {schema}.
create or replace function {schema}.adopted_headers(value text) returns jsonb
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    parsed jsonb;
begin
    parsed := coalesce(value::jsonb, '{}');
    if jsonb_typeof(parsed) = 'object' then
        return parsed;
    end if;
    return jsonb_build_object('value', parsed);
exception when data_exception or program_limit_exceeded then
    return jsonb_build_object('value', value);
end $$
