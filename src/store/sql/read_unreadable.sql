-- read_unreadable: the id of an event that read_page fails on, if the handler wants it and it has no outcome. Nothing of the event is given but
-- its id, so that unreadable values do not matter. Relies on the primary keys of events and deliveries. Locks nothing. $1 seq, $2 position's snapshot, $3 window's snapshot, $4 type patterns, $5 aggregate types, $6 headers, $7 partitions,
-- $8 partition, $9 subscription whose recorded deliveries are left out (null: none can be recorded), $10 settled without a row,
-- $11 key source, $12 key path.
select id
  from events
 where seq = $1
   and not pg_visible_in_snapshot(tx, (select $2::pg_snapshot))
   and pg_visible_in_snapshot(tx, (select $3::pg_snapshot))
   and ($4::text[] is null or type like any ($4))
   and ($5::text[] is null or aggregate_type = any ($5))
   and ($6::jsonb is null or headers @> $6)
   and ($7 = 1 or partition_of(ordering_key(aggregate_type, aggregate_id, headers, payload, $11, $12), seq, $7) = $8)
   and ($9::integer is null
        or ((select d.seq from deliveries d where d.subscription = $9 and d.seq = $1) is null
            and ($10::text is null or not $1 <@ (select $10::int8multirange))))
