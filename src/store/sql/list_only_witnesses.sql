-- list_only_witnesses: events by which alone an open circuit is judged. A small table, and the unique index on id. $1 handler (null: all).
-- Called by store::keys.
select s.handler, ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path), e.id, s.circuit_reason
  from subscriptions s
  join events e on e.id = s.circuit_witness
 where s.circuit <> 'closed' and ($1::text is null or s.handler = $1)
 order by s.handler, s.partition
