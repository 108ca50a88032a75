-- group_dead_letters: dead letters that failed alike, the largest group first. Locks nothing. Relies on deliveries_by_group or
-- deliveries_unfinished; the sample of a group, its newest event, on the primary keys.
-- $1 to $9 of the filter, $10 groups.
with groups as (
    select s.handler, d.fingerprint, count(*) as dead, min(d.handled_at) as first_at, max(d.handled_at) as last_at, max(d.seq) as seq
      from subscriptions s
      join deliveries d on d.subscription = s.id
     where {filter}
     group by s.handler, d.fingerprint
     order by count(*) desc, max(d.handled_at) desc
     limit $10)
select g.handler, g.fingerprint, g.dead, g.first_at, g.last_at, sample.id, sample.type, sample.reason, sample.status, sample.error,
       sample.detail
  from groups g
 cross join lateral (
       select e.id, e.type, d.reason, d.status, coalesce(d.error, d.detail) as error, d.detail
         from subscriptions s
         join deliveries d on d.subscription = s.id and d.seq = g.seq
         join events e on e.seq = d.seq
        where s.handler = g.handler
        limit 1) sample
 order by g.dead desc, g.last_at desc
