-- read_search_path: the schema at the head of the search_path that exists and that this role may use, the path itself, and whether the
-- role may use a schema that exists. $1 schema. Caller: migrate.
select current_schema()::text, current_setting('search_path'), has_schema_privilege($1, 'usage')
