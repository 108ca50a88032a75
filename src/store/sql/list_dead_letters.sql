-- list_dead_letters: the newest deliveries that match a filter, perhaps behind the last one of a page. Locks nothing. Relies on deliveries_dead,
-- read from its end in every subscription so that the limit ends the scan; the row that the last page ended with may be among them, hence one
-- more. $1 to $9 of the filter, $10 rows, $11 to $13 moment, number and subscription of the last row of the page before (null: the first page).
select e.id, e.type, s.handler, s.partition, d.subscription, d.seq, d.key, d.reason, d.status, d.detail, d.attempts, e.occurred_at, d.handled_at,
       d.fingerprint, i.replay
  from subscriptions s
 cross join lateral (
       select d.*
         from deliveries d
        where d.subscription = s.id and {filter}
          and ($11::timestamptz is null or (d.handled_at, d.seq) <= ($11, $12::bigint))
        order by d.handled_at desc, d.seq desc
        limit $10 + 1) d
  join events e on e.seq = d.seq
  left join replay_items i on i.seq = d.seq and i.subscription = s.id and i.state in ('held', 'released')
 where $11::timestamptz is null or (d.handled_at, d.seq, d.subscription) < ($11, $12, $13::integer)
 order by d.handled_at desc, d.seq desc, d.subscription desc
 limit $10
