-- create_adoption_function: what the trigger of an adopted table does. It has the rights of its owner and not of the application, which
-- needs none on the outbox then; so no other role may put it on a table of its own. The path is fixed, because the caller's is not ours, and so is
-- what a value looks like as text: the same row must become the same event whichever session inserts it, and be known again by a copy.
-- {function} {tag} {body}.
create or replace function {function}() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    set timezone = 'UTC' set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' set bytea_output = 'hex' set extra_float_digits = 1
    set xmlbinary = 'base64' as {tag}{body}{tag}
