-- has_function: whether a function of the `sql` kind exists with the arguments it is called with. Reads catalogues only, takes no lock.
-- $1 its name, with or without a schema. Called by store::has_function.
select to_regprocedure(
    (select string_agg(quote_ident(part), '.') from unnest(string_to_array($1, '.')) as part)
    || '(uuid, text, text, jsonb, jsonb)'
) is not null
