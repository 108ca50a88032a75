-- create_adoption_function: what the trigger of an adopted table does. It has the rights of its owner and not of the application, which
-- needs none on the outbox then; so nobody else may put it on a table of theirs. The path is fixed, because the caller's is not ours.
-- {function} {tag} {body}.
create or replace function {function}() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as {tag}{body}{tag}
