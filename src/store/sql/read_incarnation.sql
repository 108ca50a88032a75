-- read_incarnation: the identity of this server, whether it is a primary, the stored identity, and whether the stored row was written here.
-- The timeline comes from the name of the current log file: right after a promotion the control file still has the old one.
-- One statement, so that no position is newer than the snapshot that it is compared with. Small tables only.
select case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline,
       (select system_identifier from pg_control_system()) as system_identifier,
       (select oid::bigint from pg_database where datname = current_database()) as database,
       i.timeline as stored_timeline, i.system_identifier as stored_system_identifier, i.database::bigint as stored_database,
       -- A copied row has the xmin of the copying transaction. One of the three may agree by chance, not all.
       coalesce(i.relation <> 'incarnation'::regclass::oid
                or i.xmin::text::bigint <> i.tx::text::bigint & 4294967295
                or i.migrated_by::text is distinct from (select m.xmin::text from migrations m order by m.version limit 1), false) as is_copied,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next_transaction,
       coalesce((select max(greatest(pg_snapshot_xmax(s.snapshot)::text::bigint,
                                     coalesce(pg_snapshot_xmax(s.window_snapshot)::text::bigint, 0)))
                   from subscriptions s), 0) as highest_known,
       -- Behind a position and not before it: the sequence is read as it stands, whenever in this statement.
       last_seq() as last_seq,
       coalesce((select max(greatest(s.high_seq, s.window_high_seq)) from subscriptions s), 0) as highest_seq
  from (select 1) one left join incarnation i on true
