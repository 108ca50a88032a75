-- has_schema: whether a schema exists. $1 name.
select exists (select 1 from pg_namespace where nspname = $1)
