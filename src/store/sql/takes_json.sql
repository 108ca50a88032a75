-- takes_json: whether a function of the `sql` kind takes the payload as json and there is none of its name that takes jsonb. Reads
-- catalogues only, takes no lock. $1 its name, with or without a schema. Called by store::find_payload_type.
select to_regprocedure(f.name || '(uuid, text, text, jsonb, jsonb)') is null
   and to_regprocedure(f.name || '(uuid, text, text, json, jsonb)') is not null
  from (select string_agg(quote_ident(part), '.') as name from unnest(string_to_array($1, '.')) as part) f
