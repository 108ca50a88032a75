-- meet_server: which cluster, timeline and database answers; no timeline: a standby. Readable by any role.
select (select system_identifier from pg_control_system()),
       case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end,
       (select oid::bigint from pg_database where datname = current_database())
