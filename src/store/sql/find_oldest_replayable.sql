-- find_oldest_replayable: ids of the events whose deliveries were given up first, among those that match a filter and are in no other replay.
-- Locks nothing. Relies on deliveries_dead, read from its beginning in every subscription so that the limit ends the scan.
-- $1 to $9 of the filter, $10 rows.
select e.id
  from subscriptions s
 cross join lateral (
       select d.seq, d.handled_at
         from deliveries d
        where d.subscription = s.id and {filter}
        order by d.handled_at
        limit $10) d
  join events e on e.seq = d.seq
 order by d.handled_at, d.seq
 limit $10
