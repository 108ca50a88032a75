-- count_parked: the deliveries of a handler that have a row and are not finished, and its dead letters. Relies on deliveries_by_key.
-- Locks nothing. $1 handler.
select count(*) filter (where state = 'retrying') as retrying, count(*) filter (where state = 'waiting') as waiting,
       count(*) filter (where state = 'dead') as dead
  from deliveries
 where subscription = any (array(select id from subscriptions where handler = $1)) and state in ('retrying', 'waiting', 'dead')
