-- list_events: the newest events up to a number, perhaps of some types or one aggregate. Backwards on the primary key, and no further than $4 numbers
-- below it, so that a filter that nothing matches does not read the whole log. Locks nothing.
-- $1 type pattern or null, $2 aggregate id or null, $6 type and id of an aggregate or null, $3 rows, $4 numbers to search, $5 the newest number to list.
select seq, id, type, aggregate_type, aggregate_id, aggregate_version, occurred_at, payload_bytes
  from events
 where seq > $5::bigint - $4::bigint and seq <= $5::bigint
   and ($1::text is null or type like $1)
   and ($2::text is null or aggregate_id = $2)
   and ($6::text is null or bounded_key(ordering_key(aggregate_type, aggregate_id, null, null, 'aggregate', null)) = bounded_key($6))
 order by seq desc
 limit $3
