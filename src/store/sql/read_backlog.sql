-- read_backlog: the unfinished events of one subscription, for the gauges. Locks nothing. Looks at $9 events per arm and counts $10 recorded
-- deliveries per state, so a far lag costs no more than a near one; `is_exact` is false where the log or the deliveries go on.
-- Three arms, each an ordered range of an index: the rest of an open window by primary key, the events after it as a range of
-- events_window, stragglers one by one, as read_window does. Relies on deliveries_pkey, deliveries_parked and deliveries_dead.
-- `oldest`: when the oldest of them committed. Of each arm the first is a candidate, of the stragglers the first of each transaction. Where
-- none of the events looked at is wanted and there are more, it is the first that was looked at: the ages of later events are not known.
-- Recorded deliveries are counted as a range of one subscription in the order of their index: with `=` the plan may take deliveries_unfinished
-- and walk over the dead letters of every other handler to find none (measured).
-- $1 subscription, $2 type patterns, $3 aggregate types, $4 headers, $5 key source, $6 key path, $7 partitions, $8 partition.
with mine as materialized (
    select id, snapshot, window_snapshot, window_seq, window_high_seq, coalesce(window_snapshot, snapshot) as reached,
           -- Put together anew, or the server would fetch it from beside the row for every event.
           coalesce(done, '{}') + '{}'::int8multirange as done
      from subscriptions where id = $1),
looked_at as materialized (
    select r.arm, r.tx, r.seq, r.occurred_at,
           (r.arm <> 0 or (pg_visible_in_snapshot(r.tx, m.window_snapshot) and not pg_visible_in_snapshot(r.tx, m.snapshot)))
           and ($2::text[] is null or r.type like any ($2))
           and ($3::text[] is null or r.aggregate_type = any ($3))
           and ($4::jsonb is null or r.headers @> $4)
           and not r.seq <@ m.done
           and case when $7 = 1 then true
                    else partition_of(ordering_key(r.aggregate_type, r.aggregate_id, r.headers, r.payload, $5, $6), r.seq, $7) = $8 end
           -- A scalar with a limit on purpose: `not exists` may be planned as a scan over all deliveries.
           and (select d.seq from deliveries d where d.subscription = $1 and d.seq = r.seq limit 1) is null
           as is_wanted
      from mine m
     cross join lateral (
           (select 0 as arm, tx, seq, type, aggregate_type, aggregate_id, headers, payload, occurred_at
              from events
             where m.window_snapshot is not null and seq > m.window_seq and seq <= m.window_high_seq
             order by seq limit $9)
           union all
           (select 1, tx, seq, type, aggregate_type, aggregate_id, headers, payload, occurred_at
              from events
             where tx >= pg_snapshot_xmax(m.reached)
             order by tx, seq limit $9)
           union all
           (select straggler.*
              from pg_snapshot_xip(m.reached) x
             cross join lateral (
                   select 2, tx, seq, type, aggregate_type, aggregate_id, headers, payload, occurred_at
                     from events
                    where tx >= x and tx <= x
                    order by tx, seq limit $9) straggler
             limit $9)) r),
oldest as (
    select min(committed_at(c.tx, c.seq, c.occurred_at)) as at
      from (select distinct on (arm, case arm when 2 then tx end) tx, seq, occurred_at
              from looked_at where is_wanted
             order by arm, case arm when 2 then tx end, tx, seq) c),
first as (select committed_at(tx, seq, occurred_at) as at from looked_at where arm < 2 order by arm, tx, seq limit 1),
parked as (
    select count(*) filter (where state = 'retrying') as retrying, count(*) filter (where state = 'waiting') as waiting
      from (select state from deliveries
             where subscription >= $1 and subscription <= $1 and state in ('retrying', 'waiting')
             order by subscription, seq limit $10) p),
buried as (select count(*) as dead from (select 1 from deliveries where subscription >= $1 and subscription <= $1 and state = 'dead'
             order by subscription, handled_at limit $10) d),
seen as (select count(*) filter (where is_wanted) as pending, coalesce(max(n), 0) >= $9 as is_full
           from (select is_wanted, count(*) over (partition by arm) as n from looked_at) l)
select seen.pending, not seen.is_full and parked.retrying + parked.waiting < $10 and buried.dead < $10 as is_exact,
       parked.retrying, parked.waiting, buried.dead,
       coalesce(oldest.at, case when seen.is_full then (select at from first) end) as unread_oldest,
       (select committed_at(e.tx, e.seq, e.occurred_at)
          from (select seq from deliveries
                  where subscription >= $1 and subscription <= $1 and state in ('retrying', 'waiting')
                  order by subscription, seq limit 1) d
          join events e on e.seq = d.seq) as parked_oldest,
       clock_timestamp() as now
  from seen, parked, buried, oldest
