-- read_handler_backlog: what one handler has not finished, over all its partitions. Locks nothing. $1 handler, $2 rows to look at
-- per subscription and arm: a handler that is a million events behind costs no more than one that is $2 behind.
-- Three arms, each an ordered range of an index, never the whole log: the rest of an open window by primary key (a bulk
-- transaction may be all of it), then what came after the window or position, as a range and as stragglers, by events_window.
-- An event with an outcome is not pending, whichever partition has it. With record = "failures" and partitions the count is an
-- upper bound while one partition is behind the others: which of them has an event is known to the relay only.
with mine as (select array_agg(id) as ids from subscriptions where handler = $1)
select unread.pending, unread.oldest, unread.looked_at,
       parked.retrying, parked.waiting, parked.dead,
       (select occurred_at from events where seq = parked.oldest_seq) as parked_oldest,
       clock_timestamp() as now
  from mine
 cross join lateral (
       select count(distinct e.seq) filter (where e.is_wanted) as pending,
              min(e.occurred_at) filter (where e.is_wanted) as oldest,
              coalesce(max(e.looked_at), 0) as looked_at
         from subscriptions s
        cross join lateral (
              select r.seq, r.occurred_at, count(*) over () as looked_at,
                     (not r.is_of_window
                      or (pg_visible_in_snapshot(r.tx, s.window_snapshot) and not pg_visible_in_snapshot(r.tx, s.snapshot)))
                     and (s.type_patterns is null or r.type like any (s.type_patterns))
                     and (s.aggregate_types is null or r.aggregate_type = any (s.aggregate_types))
                     and (s.required_headers is null or r.headers @> s.required_headers)
                     and (s.done is null or not r.seq <@ s.done)
                     -- A scalar with a limit on purpose: `not exists` may be planned as a scan over all deliveries.
                     and (select d.seq from deliveries d where d.subscription = any (mine.ids) and d.seq = r.seq limit 1) is null
                     as is_wanted
                from ((select tx, seq, type, aggregate_type, headers, occurred_at, true as is_of_window
                         from events
                        where s.window_snapshot is not null and seq > s.window_seq and seq <= s.window_high_seq
                        order by seq limit $2)
                      union all
                      (select tx, seq, type, aggregate_type, headers, occurred_at, false
                         from events
                        where tx >= pg_snapshot_xmax(coalesce(s.window_snapshot, s.snapshot))
                        order by tx, seq limit $2)
                      union all
                      (select tx, seq, type, aggregate_type, headers, occurred_at, false
                         from events
                        where tx = any (array(select pg_snapshot_xip(coalesce(s.window_snapshot, s.snapshot))))
                        order by tx, seq limit $2)) r) e
        where s.id = any (mine.ids)) unread
 cross join lateral (
       select count(*) filter (where state = 'retrying') as retrying,
              count(*) filter (where state = 'waiting') as waiting,
              count(*) filter (where state = 'dead') as dead,
              min(seq) filter (where state in ('retrying', 'waiting')) as oldest_seq
         from deliveries
        where subscription = any (mine.ids) and state in ('retrying', 'waiting', 'dead')) parked
