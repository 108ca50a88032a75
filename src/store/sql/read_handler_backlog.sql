-- read_handler_backlog: the unfinished events of one handler, over all its partitions. Locks nothing. $1 handler, $2 events to look at
-- per subscription and arm, $3 recorded deliveries to count per subscription and state: a handler that is a million events behind costs no more than one that is $2 behind.
-- Three arms, each an ordered range of an index, never the whole log: the rest of an open window by primary key (a bulk
-- transaction may be all of it), then the events after the window or position, as a range and straggler by straggler, by events_window.
-- An event with an outcome is not pending, whichever partition has it. With record = "failures" and partitions the count is an
-- upper bound while one partition is behind the others: which of them has an event is known to the relay only.
-- `oldest`, and the ranges of deliveries_parked, as in read_backlog. Relies on deliveries_pkey, deliveries_parked and deliveries_dead.
with mine as materialized (
    select id, type_patterns, aggregate_types, required_headers, snapshot, window_snapshot, window_seq, window_high_seq,
           coalesce(window_snapshot, snapshot) as reached, coalesce(done, '{}') + '{}'::int8multirange as done
      from subscriptions where handler = $1),
ids as materialized (select array_agg(id) as ids from mine),
looked_at as materialized (
    select m.id, r.arm, r.tx, r.seq, r.occurred_at,
           (r.arm <> 0 or (pg_visible_in_snapshot(r.tx, m.window_snapshot) and not pg_visible_in_snapshot(r.tx, m.snapshot)))
           and (m.type_patterns is null or r.type like any (m.type_patterns))
           and (m.aggregate_types is null or r.aggregate_type = any (m.aggregate_types))
           and (m.required_headers is null or r.headers @> m.required_headers)
           and not r.seq <@ m.done
           -- A scalar with a limit on purpose: `not exists` may be planned as a scan over all deliveries.
           and (select d.seq from deliveries d where d.subscription = any ((select ids from ids)::integer[]) and d.seq = r.seq limit 1) is null
           as is_wanted
      from mine m
     cross join lateral (
           (select 0 as arm, tx, seq, type, aggregate_type, headers, occurred_at
              from events
             where m.window_snapshot is not null and seq > m.window_seq and seq <= m.window_high_seq
             order by seq limit $2)
           union all
           (select 1, tx, seq, type, aggregate_type, headers, occurred_at
              from events
             where tx >= pg_snapshot_xmax(m.reached)
             order by tx, seq limit $2)
           union all
           (select straggler.*
              from pg_snapshot_xip(m.reached) x
             cross join lateral (
                   select 2, tx, seq, type, aggregate_type, headers, occurred_at
                     from events
                    where tx >= x and tx <= x
                    order by tx, seq limit $2) straggler
             limit $2)) r),
oldest as (
    select min(committed_at(c.tx, c.seq, c.occurred_at)) as at
      from (select distinct on (id, arm, case arm when 2 then tx end) tx, seq, occurred_at
              from looked_at where is_wanted
             order by id, arm, case arm when 2 then tx end, tx, seq) c),
first as (select committed_at(tx, seq, occurred_at) as at from looked_at where arm < 2 order by tx, seq limit 1),
seen as (select count(distinct seq) filter (where is_wanted) as pending, coalesce(max(n), 0) as looked_at
           from (select seq, is_wanted, count(*) over (partition by id, arm) as n from looked_at) l),
parked as (
    select coalesce(sum(p.retrying), 0)::bigint as retrying, coalesce(sum(p.waiting), 0)::bigint as waiting,
           coalesce(sum(b.dead), 0)::bigint as dead,
           coalesce(bool_or(p.retrying + p.waiting >= $3 or b.dead >= $3), false) as is_full
      from mine m
     cross join lateral (
           select count(*) filter (where state = 'retrying') as retrying, count(*) filter (where state = 'waiting') as waiting
             from (select state from deliveries
                     where subscription >= m.id and subscription <= m.id and state in ('retrying', 'waiting')
                     order by subscription, seq limit $3) d) p
     cross join lateral (
           select count(*) as dead
             from (select 1 from deliveries
                    where subscription >= m.id and subscription <= m.id and state = 'dead'
                    order by subscription, handled_at limit $3) d) b)
select seen.pending, coalesce(oldest.at, case when seen.looked_at >= $2 then (select at from first) end) as oldest, seen.looked_at,
       parked.retrying, parked.waiting, parked.dead,
       (select min(committed_at(e.tx, e.seq, e.occurred_at))
          from mine m
         cross join lateral (
               select seq from deliveries
                where subscription >= m.id and subscription <= m.id and state in ('retrying', 'waiting')
                order by subscription, seq limit 1) d
          join events e on e.seq = d.seq) as parked_oldest,
       clock_timestamp() as now, parked.is_full
  from seen, parked, oldest
