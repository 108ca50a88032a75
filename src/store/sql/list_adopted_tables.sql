-- list_adopted_tables: every table with a trigger of this outbox, partitions aside. Reads catalogues only, takes no lock. {outbox} is a literal.
select n.nspname::text as schema, c.relname::text as name, p.proname::text as function
  from pg_trigger t
  join pg_proc p on p.oid = t.tgfoid
  join pg_class c on c.oid = t.tgrelid
  join pg_namespace n on n.oid = c.relnamespace
 where not t.tgisinternal and t.tgparentid = 0 and p.pronamespace = to_regnamespace({outbox}) and p.proname like 'adopt\_%'
 order by 1, 2, 3
