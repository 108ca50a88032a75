-- export_dead_letters: every dead letter that matches a filter, with its event and its attempts, in order of subscription and event.
-- Locks nothing; read row by row. Relies on the primary keys and attempts_by_delivery. $1 to $9 of the filter, $10 and $11 only of this subscription
-- and number (null: all), $12 the unreadable parts to leave out: 'aggregate', 'headers', 'payload'.
select e.id, e.type, s.handler, s.partition, d.subscription, d.seq, d.key, d.reason, d.status, d.detail, d.attempts, e.occurred_at, d.handled_at,
       d.fingerprint, null::uuid as replay, e.aggregate_type, case when 'aggregate' <> all ($12::text[]) then e.aggregate_id end as aggregate_id,
       e.aggregate_version,
       case when 'headers' <> all ($12) then e.headers::text else 'null' end as headers,
       case when 'payload' <> all ($12) then e.payload::text else 'null' end as payload,
       coalesce((select json_agg(json_build_object(
                          'at', a.at, 'attempt', a.attempt, 'outcome', a.outcome, 'reason', a.reason, 'status', a.status,
                          'ambiguous', a.ambiguous, 'duration_ms', a.duration_ms, 'detail', a.detail) order by a.at)
                   from attempts a where a.subscription = d.subscription and a.seq = d.seq), '[]')::text as attempts_made
  from subscriptions s
  join deliveries d on d.subscription = s.id
  join events e on e.seq = d.seq
 where {filter}
   and ($10::integer is null or s.id = $10) and ($11::bigint is null or d.seq = $11)
 order by d.subscription, d.seq
