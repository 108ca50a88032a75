-- store_incarnation: this server is the one that the positions belong to. One row; never inside a savepoint, whose number would
-- not be that of the transaction. No parameters.
insert into incarnation (system_identifier, timeline, database, relation, tx, migrated_by)
select (select system_identifier from pg_control_system()), left(pg_walfile_name(pg_current_wal_lsn()), 8),
       (select oid from pg_database where datname = current_database()), 'incarnation'::regclass, pg_current_xact_id(),
       (select m.xmin from migrations m order by m.version limit 1)
    on conflict (only_row) do update
   set system_identifier = excluded.system_identifier, timeline = excluded.timeline, database = excluded.database,
       relation = excluded.relation, tx = excluded.tx, migrated_by = excluded.migrated_by, confirmed_at = clock_timestamp()
