-- find_dead_letters: where the dead letters are that export_dead_letters gives, in its order, from one on. Nothing of an event is read but what the
-- filter looks at. Locks nothing. Relies on the primary keys. $1 to $9 of the filter, $10 and $11 subscription and number after which to begin (null: all).
select d.subscription, d.seq
  from subscriptions s
  join deliveries d on d.subscription = s.id
  join events e on e.seq = d.seq
 where {filter}
   and ($10::integer is null or (d.subscription, d.seq) > ($10, $11::bigint))
 order by d.subscription, d.seq
