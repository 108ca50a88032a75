-- count_pending_types: the unhandled events of one handler by event type, and how many of them another filter would exclude.
-- Locks nothing. $1 handler, $2 rows to look at per subscription and arm, $3 the other filter as an object of the columns of
-- subscriptions (null: there is none). Three arms, each an ordered range of an index, as read_handler_backlog has them.
-- `looked_at` is the largest count of one subscription: from $2 on the counts are lower bounds.
select e.type, count(*) filter (where e.is_pending) as pending,
       count(*) filter (where e.is_pending and not coalesce(e.stays, false)) as unwanted,
       min(e.occurred_at) filter (where e.is_pending) as oldest, max(e.looked_at) as looked_at
  from subscriptions s
 cross join lateral (
       select (r.event).type, (r.event).occurred_at, count(*) over () as looked_at,
              ((not r.is_of_window
                or (pg_visible_in_snapshot((r.event).tx, s.window_snapshot) and not pg_visible_in_snapshot((r.event).tx, s.snapshot)))
               and coalesce(wants(s, r.event), false)
               and (s.done is null or not (r.event).seq <@ s.done)
               and (s.partitions = 1 or partition_of(ordering_key((r.event).aggregate_type, (r.event).aggregate_id, (r.event).headers, (r.event).payload,
                                                                  s.key_source, s.key_path), (r.event).seq, s.partitions) = s.partition)
               -- A scalar with a limit on purpose: `not exists` may be planned as a scan over all deliveries.
               and (select d.seq from deliveries d
                     where d.subscription = any (array(select id from subscriptions where handler = $1)) and d.seq = (r.event).seq
                     limit 1) is null) as is_pending,
              case when $3::jsonb is null then true else wants(jsonb_populate_record(s, $3::jsonb), r.event) end as stays
         from ((select ev as event, true as is_of_window
                  from events ev
                 where s.window_snapshot is not null and ev.seq > s.window_seq and ev.seq <= s.window_high_seq
                 order by ev.seq limit $2)
               union all
               (select ev, false
                  from events ev
                 where ev.tx >= pg_snapshot_xmax(coalesce(s.window_snapshot, s.snapshot))
                 order by ev.tx, ev.seq limit $2)
               union all
               (select ev, false
                  from events ev
                 where ev.tx = any (array(select pg_snapshot_xip(coalesce(s.window_snapshot, s.snapshot))))
                 order by ev.tx, ev.seq limit $2)) r) e
 where s.handler = $1
 group by e.type
 order by pending desc, e.type
