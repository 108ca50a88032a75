-- list_dead_letters: the newest deliveries that match a filter. Locks nothing. Relies on deliveries_dead, read from its end in every
-- subscription so that the limit ends the scan. $1 to $9 of the filter, $10 rows.
select e.id, e.type, s.handler, s.partition, d.seq, d.key, d.reason, d.status, d.detail, d.attempts, e.occurred_at, d.handled_at,
       d.fingerprint, i.replay
  from subscriptions s
 cross join lateral (
       select d.*
         from deliveries d
        where d.subscription = s.id and {filter}
        order by d.handled_at desc
        limit $10) d
  join events e on e.seq = d.seq
  left join replay_items i on i.seq = d.seq and i.subscription = s.id and i.state in ('held', 'released')
 order by d.handled_at desc, d.seq desc
 limit $10
