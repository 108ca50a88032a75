-- count_dead_letters: how many dead letters of each handler match a filter; a null parameter matches everything. Locks nothing.
-- Relies on deliveries_dead or deliveries_unfinished, with a key on deliveries_by_key, with ids on the index of the id.
-- $1 handler, $2 LIKE pattern of the type, $3 key, $4 reason, $5 event ids.
select s.handler, count(*) as dead
  from subscriptions s
  join deliveries d on d.subscription = s.id
  join events e on e.seq = d.seq
 where d.state = 'dead'
   and ($1::text is null or s.handler = $1)
   and ($2::text is null or e.type like $2)
   and ($3::text is null or d.key = $3)
   and ($4::text is null or d.reason = $4 or starts_with(d.detail, $4 || ':'))
   and ($5::uuid[] is null or e.id = any ($5))
 group by s.handler
 order by s.handler
