-- read_attempts: the newest attempts at one delivery, in order; the relay keeps some dozens. Relies on attempts_by_delivery.
-- $1 subscription, $2 seq, $3 rows.
select at, attempt, duration_ms, status, ambiguous, outcome, reason, detail, instance
  from (select * from attempts where subscription = $1 and seq = $2 order by at desc limit $3) newest
 order by at
