-- read_subscription_states: the owner, pause and progress of each subscription. Small tables. No parameters. Called by store::status.
-- A loop that rests records nothing, and says through its relay that it lives.
-- `unowned_micros`: since when no lease is live; null while one is. `unrecorded_micros`: since when nothing was recorded although one is.
-- A failure that an earlier owner stored counts until the next owner stores its own progress.
select s.id, s.handler, s.partition, s.kind, s.owner, s.paused_at, s.paused_by, s.pause_reason,
       s.circuit, s.circuit_since, s.circuit_reason,
       (extract(epoch from s.circuit_until - clock_timestamp()) * 1000000)::bigint as probe_in_micros,
       case when s.owner is null or s.lease_until < clock_timestamp()
            then (extract(epoch from clock_timestamp() - coalesce(s.lease_until, greatest(s.created_at, s.moved_at))) * 1000000)::bigint
       end as unowned_micros,
       case when s.circuit <> 'closed' then s.circuit_witness end as only_witness,
       (select count(*) from destinations d where d.subscription = s.id) as destinations,
       (select d.name || ': ' || d.reason from destinations d where d.subscription = s.id order by d.since, d.name limit 1)
           as oldest_destination,
       p.read_at, s.moved_at as flushed_at,
       case when s.owner is not null and s.lease_until >= clock_timestamp()
            then (extract(epoch from clock_timestamp() - greatest(s.moved_at, p.flushed_at)) * 1000000)::bigint end as unrecorded_micros,
       p.failing_since, (extract(epoch from clock_timestamp() - p.failing_since) * 1000000)::bigint as failing_micros,
       p.failed_at, p.failures, p.operation, p.sqlstate, p.error, p.event,
       case when p.at_rest and p.seen_at > clock_timestamp() - interval '60 seconds' then p.dead end as dead_at_rest,
       exists (select from projections o where o.subscription = s.id and not o.is_live) as follows,
       w.waiting_until, (extract(epoch from w.waiting_until - clock_timestamp()) * 1000000)::bigint as waiting_micros, w.waiting_reason
  from subscriptions s
  left join progress p on p.subscription = s.id
  left join progress w on w.subscription = s.id and w.waiting_until > clock_timestamp()
 order by s.handler, s.partition
