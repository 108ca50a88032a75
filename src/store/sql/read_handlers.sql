-- read_handlers: every handler with its lease, holds and how it gets on, all partitions taken together. Reads small tables only; what
-- a handler has left to do is counted by read_handler_backlog, within a bound. Locks nothing. $1 handler (null: all), $2 rows.
select s.handler, (array_agg(s.kind order by s.partition))[1] as kind, count(*) as partitions,
       count(*) filter (where s.owner is not null and s.lease_until > clock_timestamp()) as owned,
       (array_agg(distinct s.owner) filter (where s.lease_until > clock_timestamp() and s.owner is not null)) as owners,
       min(s.paused_at) as paused_at, min(s.paused_by) as paused_by, min(s.pause_reason) as pause_reason,
       count(*) filter (where s.circuit <> 'closed') as open_circuits, min(s.circuit_reason) as circuit_reason,
       min(p.failing_since) as failing_since,
       (array_agg(p.error order by p.failing_since) filter (where p.failing_since is not null))[1] as failing_error,
       (array_agg(p.failures order by p.failing_since) filter (where p.failing_since is not null))[1] as failures,
       (extract(epoch from clock_timestamp() - min(p.failing_since)) * 1000000)::bigint as failing_micros,
       max(p.waiting_until) filter (where p.waiting_until > clock_timestamp()) as waiting_until
  from subscriptions s
  left join progress p on p.subscription = s.id
 where $1::text is null or s.handler = $1
 group by s.handler
 order by s.handler
 limit $2
