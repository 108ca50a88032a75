-- has_projection_function: whether a function exists that a projection can call. Reads catalogues only, takes no lock.
-- $1 its name, with or without a schema. Called by store::projections.
select to_regprocedure(f.name || '(uuid, text, text, jsonb, jsonb, timestamptz, boolean)') is not null
  from (select string_agg(quote_ident(part), '.') as name from unnest(string_to_array($1, '.')) as part) f
