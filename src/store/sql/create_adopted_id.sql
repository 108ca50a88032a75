-- create_adopted_id: an id for an event whose row has one that is no UUID: the same for the same row, and another one if a number is given out
-- again after its table was emptied, because then the rest of the row differs. Version 8 of RFC 9562. {schema}.
create or replace function {schema}.adopted_id(variadic parts text[]) returns uuid
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
    select overlay(overlay(md5(parts::text) placing '8' from 13) placing '8' from 17)::uuid
$$
