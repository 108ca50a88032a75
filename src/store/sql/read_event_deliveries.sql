-- read_event_deliveries: what became of one event in every handler that has a row of it. Relies on the primary key of deliveries.
-- $1 seq, $2 handler (null: all).
select d.subscription, s.handler, s.partition, d.state::text as state, d.attempts, d.status, d.key, d.reason, d.detail,
       d.due_at, d.first_attempt_at, d.handled_at, d.replay
  from subscriptions s
  join deliveries d on d.subscription = s.id and d.seq = $1
 where $2::text is null or s.handler = $2
 order by s.handler, s.partition
 limit 1000
