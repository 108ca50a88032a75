-- create_adopted_bytes: the same for a payload of bytes; what is no text goes out as base64. {schema}.
create or replace function {schema}.adopted_bytes(value bytea) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
    return {schema}.adopted_object(convert_from(value, 'UTF8'));
exception when data_exception then
    return json_build_object('base64', translate(encode(value, 'base64'), E'\n', ''));
end $$
