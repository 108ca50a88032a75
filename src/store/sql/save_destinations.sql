-- save_destinations: destinations in trouble of a subscription that we own, as they are now. Locks their rows. Behind the fence.
-- $1 subscription, $2 epoch, $3 names, $4 reasons, $5 statuses, $6 details, $7 probes, $8 microseconds until the next probe.
-- Called by store::destinations.
insert into destinations as d (subscription, name, reason, status, detail, probes, probe_at)
select s.id, n.name, n.reason, n.status, n.detail, n.probes, clock_timestamp() + n.wait * interval '1 microsecond'
  from unnest($3::text[], $4::text[], $5::integer[], $6::text[], $7::integer[], $8::bigint[])
       as n (name, reason, status, detail, probes, wait)
  join subscriptions s on s.id = $1 and s.epoch = $2
    on conflict (subscription, name) do update
   set reason = excluded.reason, status = excluded.status, detail = excluded.detail, probes = excluded.probes, probe_at = excluded.probe_at
