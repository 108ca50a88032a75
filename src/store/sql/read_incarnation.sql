-- read_incarnation: which cluster this is, whether it is a primary, and what was stored.
-- The timeline comes from the name of the current log file: right after a promotion the control file still tells the old one.
select pg_is_in_recovery() as in_recovery,
       (select system_identifier from pg_control_system()) as system_identifier,
       case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline,
       i.system_identifier as stored_system_identifier, i.timeline as stored_timeline
  from (select 1) one left join incarnation i on true
