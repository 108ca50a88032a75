-- read_window: the next window in one statement, in autocommit on a session without a transaction number.
-- One statement on purpose: two would see two snapshots, and an event committed between them would be lost.
-- Relies on events_window for both arms: new transactions as a range, stragglers one by one. Locks nothing.
-- A straggler is a range of one number on purpose: of "tx = x" the planner believes, where few transactions wrote most of the
-- log, that it finds half of it, and scans all of it on every read.
-- $1 snapshot, $2 rows, $3 bytes, $4 type patterns, $5 aggregate types, $6 headers, $7 key source, $8 key path, $9 partitions, $10 partition,
-- $11 the end of the window: a later snapshot of this server, null for now.
-- Where quick_key fails on a payload, the caller runs it again with ordering_key in its place, and returns `is_unreadable`; see store::windows.
-- Returns at least one row; `seq` is null where the window is empty. More than $2 rows, or `bytes_after` of the last beyond $3: the
-- window is larger. No count of the rows: it would make the server hold all of them before the first one leaves.
with moment as materialized (select coalesce($11::pg_snapshot, pg_current_snapshot()) as snapshot)
select m.snapshot::text as snapshot, s.high_seq, l.insert_lsn, l.flush_lsn, clock_timestamp() as now,
       e.seq, e.id, e.type, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.payload, e.headers, e.occurred_at,
       bounded_key(e.key) as key, e.bytes_after, false as is_unreadable
  from moment m
 cross join lateral (select case when is_called then last_value else 0 end as high_seq from events_seq_seq) s
 cross join lateral (select (pg_current_wal_insert_lsn() - '0/0')::bigint as insert_lsn,
                            (pg_current_wal_flush_lsn() - '0/0')::bigint as flush_lsn) l
  left join lateral (
       select w.*, headers_json::text as headers, sum(w.payload_bytes) over (order by w.seq rows unbounded preceding) as bytes_after
         from ((select seq, id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers as headers_json, occurred_at, payload_bytes,
                       quick_key(aggregate_type, aggregate_id, headers, payload, $7, $8) as key
                  from events
                 where tx >= pg_snapshot_xmax($1::pg_snapshot)
                   and ($11::text is null or pg_visible_in_snapshot(tx, (select $11::pg_snapshot)))
                   and ($4::text[] is null or type like any ($4))
                   and ($5::text[] is null or aggregate_type = any ($5))
                   and ($6::jsonb is null or headers @> $6)
                   and ($9 = 1 or partition_of(quick_key(aggregate_type, aggregate_id, headers, payload, $7, $8), seq, $9) = $10)
                 order by tx, seq
                 limit $2 + 1)
               union all
               (select straggler.*
                  from pg_snapshot_xip($1::pg_snapshot) x
                 cross join lateral (
                       select seq, id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers, occurred_at, payload_bytes,
                              quick_key(aggregate_type, aggregate_id, headers, payload, $7, $8)
                         from events
                        where tx >= x and tx <= x
                          and ($4::text[] is null or type like any ($4))
                          and ($5::text[] is null or aggregate_type = any ($5))
                          and ($6::jsonb is null or headers @> $6)
                          and ($9 = 1 or partition_of(quick_key(aggregate_type, aggregate_id, headers, payload, $7, $8), seq, $9) = $10)
                        order by tx, seq
                        limit $2 + 1) straggler
                 where pg_visible_in_snapshot(x, m.snapshot))) w
       ) e on e.bytes_after - e.payload_bytes < $3
 order by e.seq
