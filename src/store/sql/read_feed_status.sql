-- read_feed_status: the places of the feed for operators. Small tables and both ends of feed_pkey. No parameters. Called by `outboxd feed status`.
select coalesce(p.places, 0) as head, coalesce(r.place, 0) as removed_place, coalesce(r.events, 0) as removed_events, r.occurred_at as removed_at,
       (select place from feed order by place limit 1) as oldest_place,
       (select count(*) from types) as types,
       (select e.occurred_at from feed f join events e on e.seq = f.seq where f.place = p.places) as newest_at
  from (select 1) one left join feed_places p on true left join feed_removed r on true
