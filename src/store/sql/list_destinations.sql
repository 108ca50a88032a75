-- list_destinations: destinations in trouble and how many deliveries wait for each, counted up to 10,000. A small table; counts on
-- deliveries_by_destination. $1 handler (null: all), $2 rows. Called by store::destinations.
select s.handler, s.partition, d.name, d.reason, d.status, d.detail, d.probes, d.since, d.probe_at,
       (select count(*) from (select 1 from deliveries w
                               where w.subscription = d.subscription and w.destination = d.name and w.state = 'retrying'
                               limit 10000) w) as waiting
  from destinations d
  join subscriptions s on s.id = d.subscription
 where $1::text is null or s.handler = $1
 order by d.since, s.handler, d.name
 limit $2
