-- read_adopted_table: a table that is to be adopted, its columns, what this role may do with it, and the trigger on it that is ours. Reads
-- catalogues only, takes no lock. {outbox} {schema} {table} {function} are literals, so that it passes a pooler.
select c.relkind::text as kind, c.relispartition as is_partition, current_user::text as role,
       has_schema_privilege(n.oid, 'usage') as may_use_schema, has_table_privilege(c.oid, 'trigger') as may_trigger,
       has_table_privilege(c.oid, 'select') as may_select,
       (select json_agg(json_build_object('name', a.attname,
                                          'kind', format_type(coalesce(nullif(y.typbasetype, 0), y.oid), null)) order by a.attnum)
          from pg_attribute a join pg_type y on y.oid = a.atttypid
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)::text as columns,
       (select json_agg(json_build_object('function', p.proname, 'body', p.prosrc, 'is_definer', p.prosecdef,
                                          'is_row', (t.tgtype & 1) = 1, 'is_deferred', t.tginitdeferred,
                                          'is_on', t.tgenabled in ('O', 'A'), 'trigger', t.tgname))
          from pg_trigger t join pg_proc p on p.oid = t.tgfoid
         where t.tgrelid = c.oid and not t.tgisinternal and p.pronamespace = to_regnamespace({outbox}) and p.proname like 'adopt\_%')::text as triggers
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = {schema} and c.relname = {table}
