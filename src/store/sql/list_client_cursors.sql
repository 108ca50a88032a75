-- list_client_cursors: where clients stand that leave their cursors to the server, and how far that is behind. A small table; for each row one
-- probe of feed_pkey and events_pkey. Moments are microseconds since the Unix epoch and ages microseconds, which read the same in a plain text
-- query. Locks nothing. No parameters. Called by store::feed::kept and by store::facts.
select c.client, c.name, c.cursor, (extract(epoch from c.moved_at) * 1000000)::bigint as moved_at,
       greatest(coalesce(p.places, 0) - c.place, 0) as behind,
       greatest((extract(epoch from clock_timestamp() - n.occurred_at) * 1000000)::bigint, 0) as oldest
  from client_cursors c
  left join feed_places p on true
  left join lateral (select e.occurred_at
                       from feed f join events e on e.seq = f.seq
                      where f.place > c.place
                      order by f.place
                      limit 1) n on true
 order by c.client, c.name
