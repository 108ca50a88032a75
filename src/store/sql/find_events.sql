-- find_events: the numbers of events that match everything that is given. With ids by their index; otherwise it reads the whole log. No locks.
-- $1 ids, $2 ordering key, $3 LIKE pattern of the type, $4 since, $5 before. A null parameter matches everything.
select e.seq
  from events e
 where ($1::uuid[] is null or e.id = any ($1))
   and ($2::text is null
        or coalesce(e.aggregate_type, '') || '/' || e.aggregate_id = $2
        or exists (select from deliveries d where d.seq = e.seq and d.subscription in (select id from subscriptions) and d.key = $2))
   and ($3::text is null or e.type like $3)
   and ($4::timestamptz is null or e.occurred_at >= $4)
   and ($5::timestamptz is null or e.occurred_at < $5)
 order by e.seq
