-- open_window: freeze the end of a window that will be read page by page. Locks nothing.
-- Relies on events_window for the stragglers, each a range of one number for the reason that read_window gives. $1 snapshot of the position.
-- The sequence is read after the snapshot was taken, so it covers every row that is visible in it.
with moment as materialized (select pg_current_snapshot() as snapshot)
select m.snapshot::text as snapshot, s.high_seq, l.insert_lsn, l.flush_lsn, clock_timestamp() as now,
       (select min(first.seq)
          from pg_snapshot_xip($1::pg_snapshot) x
         cross join lateral (select seq from events where tx >= x and tx <= x order by tx, seq limit 1) first) as first_straggler
  from moment m
 cross join lateral (select case when is_called then last_value else 0 end as high_seq from events_seq_seq) s
 cross join lateral (select (pg_current_wal_insert_lsn() - '0/0')::bigint as insert_lsn,
                            (pg_current_wal_flush_lsn() - '0/0')::bigint as flush_lsn) l
