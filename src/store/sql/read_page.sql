-- read_page: one page of an open window: visible in its snapshot, not in the position's, in order of seq. Locks nothing.
-- Relies on the primary key of events; looks at $5 numbers at most, so that a selective filter cannot make it long.
-- $1 position's snapshot, $2 window's snapshot, $3 after this seq, $4 up to this seq, $5 span, $6 rows, $7 bytes,
-- $8 type patterns, $9 aggregate types, $10 headers, $11 key source, $12 key path, $13 partitions, $14 partition,
-- The snapshots and $16 arrive as text and stand in subqueries, so that they are understood once and not for every row.
-- No count of the rows: it would make the server hold the whole page before the first row leaves; `bytes_after` shows a cut.
-- Where quick_key fails on a payload, the caller runs it again with ordering_key in its place, and returns `is_unreadable`; see store::windows.
-- $15 subscription whose recorded deliveries are left out (null: none can be recorded), $16 settled without a row.
select e.seq, e.id, e.type, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.payload, e.headers::text as headers, e.occurred_at,
       bounded_key(e.key) as key, e.bytes_after, false as is_unreadable
  from (select w.*, sum(w.payload_bytes) over (order by w.seq rows unbounded preceding) as bytes_after
          from (select seq, id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers, occurred_at, payload_bytes,
                       quick_key(aggregate_type, aggregate_id, headers, payload, $11, $12) as key
                  from events
                 where seq > $3 and seq <= least($4, $3 + $5)
                   and not pg_visible_in_snapshot(tx, (select $1::pg_snapshot))
                   and pg_visible_in_snapshot(tx, (select $2::pg_snapshot))
                   and ($8::text[] is null or type like any ($8))
                   and ($9::text[] is null or aggregate_type = any ($9))
                   and ($10::jsonb is null or headers @> $10)
                   and ($13 = 1 or partition_of(quick_key(aggregate_type, aggregate_id, headers, payload, $11, $12), seq, $13) = $14)
                   and ($15::integer is null
                        -- A scalar subquery, because `not exists` may become a join with all deliveries when statistics are old.
                        or ((select d.seq from deliveries d where d.subscription = $15 and d.seq = events.seq) is null
                            and ($16::text is null or not seq <@ (select $16::int8multirange))))
                 order by seq
                 limit $6) w) e
 where e.bytes_after - e.payload_bytes < $7
 order by e.seq
