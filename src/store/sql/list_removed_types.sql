-- list_removed_types: types that a version wants, of which the newest events are not those of streams, so that retention removes them. Looks
-- at the last $2 numbers of the log only. $1 subscription.
select distinct e.type
  from subscriptions s
  join events e on e.seq > last_seq() - $2::bigint
   and (s.type_patterns is null or e.type like any (s.type_patterns))
   and (s.aggregate_types is null or e.aggregate_type = any (s.aggregate_types))
 where s.id = $1 and (select v.seq from stream_events v where v.seq = e.seq) is null
 order by e.type
 limit 20
