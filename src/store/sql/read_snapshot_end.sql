-- read_snapshot_end: one past the highest transaction id that has completed. No locks. Caller: forgetting.
select pg_snapshot_xmax(pg_current_snapshot())::text
