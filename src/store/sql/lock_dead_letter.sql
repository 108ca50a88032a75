-- lock_dead_letter: a dead letter that an operator is about to correct, locked against a second operator, and how many deliveries of its key
-- wait behind it. No row: it is no dead letter (any more). Locks one row. Relies on the unique index on id, the primary key of deliveries,
-- and deliveries_by_key. $1 handler, $2 event id, $3 followers counted at most. Called by store::corrections.
select d.seq,
       case when d.holds_key
            then (select count(*) from (select from deliveries f
                                         where f.subscription = d.subscription and f.key = d.key and f.seq > d.seq and f.state = 'waiting'
                                         limit $3) w)
            else 0 end as followers
  from events e
  join subscriptions s on s.handler = $1
  join deliveries d on d.subscription = s.id and d.seq = e.seq
 where e.id = $2 and d.state = 'dead'
   for update of d
