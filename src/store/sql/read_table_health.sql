-- read_table_health: dead rows in the tables of the outbox, and the size of the tables compared with their live rows.
-- The width of a row comes from the statistics of the last analyze; without one it is not known.
select c.relname::text as name, coalesce(s.n_live_tup, 0) as live, coalesce(s.n_dead_tup, 0) as dead,
       pg_relation_size(c.oid) as bytes,
       (coalesce(s.n_live_tup, 0) * (28 + w.width) * 100
        / coalesce((select option_value::integer from pg_options_to_table(c.reloptions) where option_name = 'fillfactor'), 100))::bigint as needed_bytes,
       not coalesce((select option_value::boolean from pg_options_to_table(c.reloptions) where option_name = 'autovacuum_enabled'), true) as is_switched_off,
       greatest(s.last_analyze, s.last_autoanalyze) is not null as is_analyzed,
       coalesce(s.n_mod_since_analyze, 0) as changed
  from pg_class c
  left join pg_stat_user_tables s on s.relid = c.oid
 cross join lateral (select sum(avg_width) as width from pg_stats where schemaname = current_schema() and tablename = c.relname) w
 where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
 order by c.relname
