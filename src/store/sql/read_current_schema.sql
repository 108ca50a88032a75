-- read_current_schema: the schema at the head of the search_path that exists and that this role may use. Caller: migrate.
select current_schema()::text
