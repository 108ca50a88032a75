-- read_handlers: every handler with its lease, holds, lag and unfinished deliveries, all partitions taken together. Locks nothing.
-- The lag is that of its slowest partition, in events, counted up to 10,000. Relies on events_window, deliveries_due,
-- deliveries_by_key and deliveries_dead. $1 handler (null: all), $2 rows.
select s.handler, (array_agg(s.kind order by s.partition))[1] as kind, count(*) as partitions,
       count(*) filter (where s.owner is not null and s.lease_until > clock_timestamp()) as owned,
       (array_agg(distinct s.owner) filter (where s.lease_until > clock_timestamp() and s.owner is not null)) as owners,
       min(s.paused_at) as paused_at, min(s.paused_by) as paused_by, min(s.pause_reason) as pause_reason,
       count(*) filter (where s.circuit <> 'closed') as open_circuits, min(s.circuit_reason) as circuit_reason,
       max(unread.events) as lag, sum(parked.retrying)::bigint as retrying, sum(parked.waiting)::bigint as waiting,
       sum(parked.dead)::bigint as dead
  from subscriptions s
 cross join lateral (
       select count(*) as events
         from (select 1 from events e
                where (e.tx >= pg_snapshot_xmax(s.snapshot) or e.tx = any (array(select pg_snapshot_xip(s.snapshot))))
                  and (s.window_seq is null or e.seq > s.window_seq or not pg_visible_in_snapshot(e.tx, s.window_snapshot))
                  and (s.done is null or not e.seq <@ s.done)
                  and (s.type_patterns is null or e.type like any (s.type_patterns))
                  and (s.aggregate_types is null or e.aggregate_type = any (s.aggregate_types))
                  and (s.required_headers is null or e.headers @> s.required_headers)
                limit 10000) first_events) unread
 cross join lateral (
       select (select count(*) from deliveries where subscription = s.id and state = 'retrying') as retrying,
              (select count(*) from deliveries where subscription = s.id and state = 'waiting') as waiting,
              (select count(*) from deliveries where subscription = s.id and state = 'dead') as dead) parked
 where $1::text is null or s.handler = $1
 group by s.handler
 order by s.handler
 limit $2
