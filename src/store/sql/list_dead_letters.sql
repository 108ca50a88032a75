-- list_dead_letters: the newest dead letters that match a filter; a null parameter matches everything. Locks nothing.
-- Relies on deliveries_dead, read from its end in every subscription so that the limit ends the scan; on deliveries_by_key with
-- a key. $1 handler, $2 LIKE pattern of the type, $3 key, $4 reason, $5 event ids, $6 rows.
select e.id, e.type, s.handler, s.partition, d.seq, d.key, d.reason, d.status, d.detail, d.attempts, e.occurred_at, d.handled_at
  from subscriptions s
 cross join lateral (
       select d.*
         from deliveries d
         join events e on e.seq = d.seq
        where d.subscription = s.id and d.state = 'dead'
          and ($2::text is null or e.type like $2)
          and ($3::text is null or d.key = $3)
          and ($4::text is null or d.reason = $4 or starts_with(d.detail, $4 || ':'))
          and ($5::uuid[] is null or e.id = any ($5))
        order by d.handled_at desc
        limit $6) d
  join events e on e.seq = d.seq
 where $1::text is null or s.handler = $1
 order by d.handled_at desc, d.seq desc
 limit $6
