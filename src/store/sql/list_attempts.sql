-- list_attempts: the recorded tries of one event, of all handlers, the oldest first. Relies on attempts_by_delivery.
-- Each delivery keeps at most some 25 tries; the limit is for a history that was not trimmed. Locks nothing. $1 seq, $2 rows,
-- $3 handler (null: all).
select a.at, s.handler, s.partition, a.attempt, a.outcome, a.reason, a.status, a.ambiguous, a.duration_ms, a.detail, a.instance
  from subscriptions s
 cross join lateral (select * from attempts where subscription = s.id and seq = $1 order by at limit $2) a
 where $3::text is null or s.handler = $3
 order by a.at, s.handler, a.attempt
 limit $2
