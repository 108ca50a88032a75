-- plan_repartition: the unhandled events of all partitions of a handler, as of a snapshot. Runs behind lock_handler.
-- `first_seq`: the lowest of these numbers (null: there are none). `settled`: the events from there on that were handled without a row,
-- which must not be delivered again; a row of `deliveries` tells that by itself. `ranges`: how many pieces that has.
-- Relies on events_window, on the primary keys of events and deliveries. Locks nothing. $1 handler, $2 snapshot taken behind the lock.
with ids as materialized (select array_agg(id) as ids from subscriptions where handler = $1),
pending as materialized (
    select e.seq
      from subscriptions s
     cross join lateral (
           select e.seq
             from events e
            where (e.tx >= pg_snapshot_xmax(s.snapshot) or e.tx = any (array(select pg_snapshot_xip(s.snapshot))))
              and pg_visible_in_snapshot(e.tx, $2::pg_snapshot)
              and not (s.window_seq is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot))
              and (s.done is null or not e.seq <@ s.done)
              and wants(s, e)
              and (s.partitions = 1 or partition_of(ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path), e.seq, s.partitions) = s.partition)
              -- A scalar with a limit on purpose: `not exists` may be planned as a scan over all deliveries.
              and (select d.seq from deliveries d where d.subscription = any ((select ids from ids)::integer[]) and d.seq = e.seq limit 1) is null) e
     where s.handler = $1),
bound as (select min(seq) as first_seq from pending),
settled as (
    select range_agg(int8range(e.seq, e.seq + 1)) as ranges
      from events e
     cross join (select s as wish from subscriptions s where s.handler = $1 order by s.partition limit 1) first
     where e.seq >= (select first_seq from bound) and pg_visible_in_snapshot(e.tx, $2::pg_snapshot)
       and wants(first.wish, e)
       and e.seq not in (select seq from pending)
       and (select d.seq from deliveries d where d.subscription = any ((select ids from ids)::integer[]) and d.seq = e.seq limit 1) is null)
select (select first_seq from bound) as first_seq, (select count(*) from pending) as pending,
       (select ranges::text from settled) as settled,
       (select count(*) from settled, unnest(settled.ranges)) as ranges
