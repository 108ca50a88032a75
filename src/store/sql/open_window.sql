-- open_window: freeze the end of a window that will be read page by page. Locks nothing. $1 snapshot of the position. Relies on
-- events_window for the stragglers, each a range of one transaction id for the reason that read_window gives. The sequence is
-- read after the snapshot was taken, so it covers every row that is visible in it. `first_straggler`: the lowest `seq` that may
-- lie below the bound of the position. Two kinds of rows may lie there. The first: rows of transactions that the snapshot lists
-- as running. The second: rows of transactions from xmax on. xmax is one past the highest transaction id that had *completed*;
-- transactions with a higher id may already have been running, and the snapshot does not list them. There are no more of these
-- than the server can run at once; every later transaction drew its sequence numbers after the bound was read.
with recursive moment as materialized (select pg_current_snapshot() as snapshot),
bound as (select sum(setting::integer) as transactions from pg_settings
           where name in ('max_connections', 'max_prepared_transactions', 'max_worker_processes', 'autovacuum_max_workers', 'max_wal_senders')),
running as (
    (select tx, seq, 1 as place from events where tx >= pg_snapshot_xmax($1::pg_snapshot) order by tx, seq limit 1)
    union all
    select n.tx, n.seq, r.place + 1
      from running r
     cross join lateral (select tx, seq from events where tx > r.tx order by tx, seq limit 1) n
     where r.place <= (select transactions from bound))
select m.snapshot::text as snapshot, s.high_seq, l.insert_lsn, l.flush_lsn, clock_timestamp() as now,
       least((select min(first.seq)
                from pg_snapshot_xip($1::pg_snapshot) x
               cross join lateral (select seq from events where tx >= x and tx <= x order by tx, seq limit 1) first),
             (select min(seq) from running)) as first_straggler
  from moment m
 cross join lateral (select case when is_called then last_value else 0 end as high_seq from events_seq_seq) s
 cross join lateral (select (pg_current_wal_insert_lsn() - '0/0')::bigint as insert_lsn,
                            (pg_current_wal_flush_lsn() - '0/0')::bigint as flush_lsn) l
