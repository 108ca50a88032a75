-- count_skipped: the events that moving a subscription forwards to a number would skip: those without an outcome below it, visible in the snapshot.
-- Also the deliveries below it that stay owed, because they have a row. Relies on events_window, on the primary key of deliveries and on deliveries_parked.
-- Locks nothing. $1 subscription, $2 first number, $3 snapshot, $4 events to look at: the owner waits meanwhile. `looked_at` tells whether
-- there are more.
with seen as materialized (
    select e.seq < $2 and pg_visible_in_snapshot(e.tx, $3::pg_snapshot)
           and not (s.window_seq is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot))
           and (s.done is null or not e.seq <@ s.done)
           and wants(s, e.event)
           and (s.partitions = 1 or partition_of(ordering_key((e.event).aggregate_type, (e.event).aggregate_id, (e.event).headers, (e.event).payload, s.key_source, s.key_path), e.seq, s.partitions) = s.partition)
           -- A scalar subquery, because `not exists` may become a join with all deliveries when statistics are old.
           and (select d.seq from deliveries d where d.subscription = s.id and d.seq = e.seq) is null as is_skipped
      from subscriptions s
     cross join lateral (
           (select seq, tx, events as event from events where tx >= pg_snapshot_xmax(s.snapshot) order by tx, seq limit $4)
           union all
           (select straggler.*
              from pg_snapshot_xip(s.snapshot) x
             cross join lateral (select seq, tx, events as event from events where tx >= x and tx <= x order by tx, seq limit $4) straggler
             limit $4)) e
     where s.id = $1)
select (select count(*) from seen where is_skipped) as skipped,
       (select count(*) from (select 1 from deliveries
                                where subscription >= $1 and subscription <= $1 and seq < $2 and state in ('retrying', 'waiting')
                                order by subscription, seq limit $4) kept) as kept,
       (select count(*) from seen) as looked_at
