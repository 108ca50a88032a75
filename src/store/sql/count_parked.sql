-- count_parked: the deliveries of a handler that have a row and are not finished, and its dead letters. Relies on deliveries_by_key.
-- Locks nothing. $1 handler. The range and the order keep the plan to that index, as in read_backlog.
select count(*) filter (where d.state = 'retrying') as retrying, count(*) filter (where d.state = 'waiting') as waiting,
       count(*) filter (where d.state = 'dead') as dead
  from subscriptions s
 cross join lateral (
       select state from deliveries
        where subscription >= s.id and subscription <= s.id and state in ('retrying', 'waiting', 'dead')
        order by subscription, key, seq) d
 where s.handler = $1
