-- read_destinations: the destinations in trouble of a subscription, for its new owner. Primary key of destinations. $1 subscription.
-- Called by store::destinations.
select name, reason, status, coalesce(detail, ''), probes,
       (extract(epoch from clock_timestamp() - since) * 1000000)::bigint as lasted_micros,
       (extract(epoch from probe_at - clock_timestamp()) * 1000000)::bigint as wait_micros
  from destinations where subscription = $1
