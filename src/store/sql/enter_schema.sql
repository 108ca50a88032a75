-- enter_schema: for the rest of the transaction names are those of a schema, and a row that the role may not see is an error: without its
-- delivery an event would pass for handled. $1 schema. Of a session that is not ours.
select set_config('search_path', quote_ident($1) || ', pg_catalog, pg_temp', true), set_config('row_security', 'off', true)
