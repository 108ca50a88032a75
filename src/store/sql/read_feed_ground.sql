-- read_feed_ground: the state of the feed, and the event at one place. Small tables, and one probe of feed_pkey and events_pkey.
-- $1 place. Locks nothing.
select coalesce(p.places, 0) as head, coalesce(r.place, 0) as removed_place, r.event as removed_event, r.occurred_at as removed_at,
       (select e.id from feed f join events e on e.seq = f.seq where f.place = $1) as event,
       array(select epoch from feed_epochs order by number) as epochs,
       array(select began_after from feed_epochs order by number) as began_after
  from (select 1) one left join feed_places p on true left join feed_removed r on true
