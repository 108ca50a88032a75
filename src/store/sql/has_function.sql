-- has_function: whether a function of the `sql` kind exists with arguments that it can be called with. Reads catalogues only, takes no lock.
-- $1 its name, with or without a schema. Called by store::has_function.
select coalesce(to_regprocedure(f.name || '(uuid, text, text, jsonb, jsonb)'), to_regprocedure(f.name || '(uuid, text, text, json, jsonb)')) is not null
  from (select string_agg(quote_ident(part), '.') as name from unnest(string_to_array($1, '.')) as part) f
