-- read_subscription_states: who owns each subscription, and whether it is held. A small table. No parameters. Called by store::status.
-- `unowned_micros`: since when no lease is live; null while one is.
select id, handler, partition, kind, owner, paused_at, paused_by, pause_reason,
       circuit, circuit_since, circuit_reason,
       (extract(epoch from circuit_until - clock_timestamp()) * 1000000)::bigint as probe_in_micros,
       case when owner is null or lease_until < clock_timestamp()
            then (extract(epoch from clock_timestamp() - coalesce(lease_until, greatest(created_at, moved_at))) * 1000000)::bigint
       end as unowned_micros,
       case when circuit <> 'closed' then circuit_witness end as only_witness,
       (select count(*) from destinations d where d.subscription = subscriptions.id) as destinations,
       (select d.name || ': ' || d.reason from destinations d where d.subscription = subscriptions.id order by d.since, d.name limit 1)
           as oldest_destination
  from subscriptions
 order by handler, partition
