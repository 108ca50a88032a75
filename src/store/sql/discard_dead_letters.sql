-- discard_dead_letters: a person decided that these will not be delivered. Locks the rows it takes, in one order.
-- Relies on deliveries_dead or deliveries_unfinished, with a key on deliveries_by_key, with ids on the index of the id.
-- $1 handler, $2 LIKE pattern of the type, $3 key, $4 reason of the failure, $5 event ids, $6 the person's reason.
with chosen as materialized (
    select d.subscription, d.seq
      from deliveries d
      join subscriptions s on s.id = d.subscription
      join events e on e.seq = d.seq
     where d.state = 'dead'
       and ($1::text is null or s.handler = $1)
       and ($2::text is null or e.type like $2)
       and ($3::text is null or d.key = $3)
       and ($4::text is null or d.reason = $4 or starts_with(d.detail, $4 || ':'))
       and ($5::uuid[] is null or e.id = any ($5))
     order by d.subscription, d.seq
       for update of d)
update deliveries d
   set state = 'discarded', handled_at = clock_timestamp(), due_at = null, reason = 'operator', detail = $6
  from chosen c
 where d.subscription = c.subscription and d.seq = c.seq and d.state = 'dead'
