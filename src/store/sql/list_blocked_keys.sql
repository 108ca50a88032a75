-- list_blocked_keys: keys whose later deliveries wait behind one that failed, the most followers first. Locks nothing.
-- Relies on deliveries_by_key; the head's row and event on the primary keys. $1 handler (null: all), $2 rows.
select s.handler, s.partition, k.key, e.id, e.type, d.state::text as state, d.attempts, d.reason, d.status, d.detail, d.due_at,
       coalesce(d.first_attempt_at, d.handled_at) as since, k.followers
  from subscriptions s
 cross join lateral (
       select h.key, h.head, (select count(*) from deliveries f
                               where f.subscription = s.id and f.key = h.key and f.seq > h.head and f.state = 'waiting') as followers
         from (select key, min(seq) filter (where state = 'retrying' or (state = 'dead' and holds_key)) as head
                 from deliveries
                where subscription = s.id and key is not null
                  and (state in ('retrying', 'waiting') or (state = 'dead' and holds_key))
                group by key
               having count(*) filter (where state = 'waiting') > 0) h
        where h.head is not null) k
  join deliveries d on d.subscription = s.id and d.seq = k.head
  join events e on e.seq = d.seq
 where ($1::text is null or s.handler = $1) and k.followers > 0
 order by k.followers desc, since, k.key
 limit $2
