-- read_newest_dead_letter: the newest dead letter of a handler, as an example of them all. Locks nothing.
-- Relies on deliveries_dead, read from its end in every subscription. $1 handler.
select e.id, e.type, d.reason, d.status, d.detail
  from subscriptions s
 cross join lateral (
       select seq, reason, status, detail, handled_at
         from deliveries
        where subscription = s.id and state = 'dead'
        order by handled_at desc
        limit 1) d
  join events e on e.seq = d.seq
 where s.handler = $1
 order by d.handled_at desc
 limit 1
