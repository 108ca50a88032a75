-- has_migrations: whether the schema at the head of the search_path has the table of migrations.
select to_regclass(quote_ident(current_schema()) || '.migrations') is not null
