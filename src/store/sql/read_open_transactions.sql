-- read_open_transactions: the sessions that have held a transaction id, or a snapshot that vacuum must respect, for longest. Without
-- pg_read_all_stats a role sees its own sessions only.
select pid, coalesce(application_name, '') as application, coalesce(usename::text, '') as role, coalesce(datname::text, '') as database,
       coalesce(state, '') as state, backend_xid is not null as has_number,
       (extract(epoch from clock_timestamp() - xact_start) * 1000000)::bigint as age_micros
  from pg_stat_activity
 where xact_start is not null and pid <> pg_backend_pid() and (backend_xid is not null or backend_xmin is not null)
   and backend_type = 'client backend'
 order by xact_start
 limit 20
