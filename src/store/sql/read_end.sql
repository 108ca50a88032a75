-- read_end: this moment as the end of a window that is not read. Locks nothing. No parameters. Caller: store::windows.
-- The sequence is read after the snapshot was taken, so it covers every row that is visible in it.
select m.snapshot::text as snapshot, s.high_seq, l.insert_lsn, l.flush_lsn, clock_timestamp() as now
  from (select pg_current_snapshot() as snapshot) m
 cross join lateral (select case when is_called then last_value else 0 end as high_seq from events_seq_seq) s
 cross join lateral (select (pg_current_wal_insert_lsn() - '0/0')::bigint as insert_lsn,
                            (pg_current_wal_flush_lsn() - '0/0')::bigint as flush_lsn) l
