-- find_key_head: the event that the later deliveries of a key wait for, and how many wait. Locks nothing. No row: they wait for nothing.
-- Relies on deliveries_by_key and the primary key of events. $1 handler, $2 partition, $3 key, $4 most followers to count.
select e.id, d.state::text as state, d.reason, d.status, d.due_at, d.handled_at,
       (select count(*) from (select 1 from deliveries f
                               where f.subscription = s.id and f.key = bounded_key($3) and f.seq > d.seq and f.state = 'waiting'
                               limit $4) f) as followers
  from subscriptions s
 cross join lateral (
       select seq, state, reason, status, due_at, handled_at
         from deliveries
        where subscription = s.id and key = bounded_key($3) and state in ('retrying', 'waiting', 'dead')
          and (state = 'retrying' or (state = 'dead' and holds_key))
        order by seq
        limit 1) d
  join events e on e.seq = d.seq
 where s.handler = $1 and s.partition = $2
