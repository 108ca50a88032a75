-- meet_server: which cluster and timeline answers; no timeline: a standby. Readable by any role.
select (select system_identifier from pg_control_system()),
       case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end
