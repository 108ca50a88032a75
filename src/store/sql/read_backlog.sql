-- read_backlog: the gauges of one subscription. Counts the log up to 10,000, beyond that the sequence tells.
-- Relies on events_window for both arms, as read_window does, deliveries_by_key, deliveries_dead. $1 subscription, $2 type patterns,
-- $3 aggregate types, $4 headers, $5 key source, $6 key path, $7 partitions, $8 partition.
-- What is settled without a row is put together anew, or the server would fetch it from beside the row for every event.
with settled as materialized (select coalesce(done, '{}') + '{}'::int8multirange as done from subscriptions where id = $1)
select unread.events as unread, unread.oldest as unread_oldest, s.high_seq,
       (select count(*) from deliveries where subscription = $1 and state = 'retrying') as retrying,
       (select count(*) from deliveries where subscription = $1 and state = 'waiting') as waiting,
       (select count(*) from deliveries where subscription = $1 and state = 'dead') as dead,
       (select min(e.occurred_at) from events e
         where e.seq in (select seq from deliveries where subscription = $1 and state in ('retrying', 'waiting') order by key, seq limit 1000)) as parked_oldest,
       clock_timestamp() as now
  from subscriptions s
 cross join lateral (
       select count(*) as events, min(occurred_at) as oldest
         from ((select occurred_at from events
                 where tx >= pg_snapshot_xmax(s.snapshot)
                   and (s.window_seq is null or seq > s.window_seq or not pg_visible_in_snapshot(tx, s.window_snapshot))
                   and not seq <@ (select done from settled)
                   and ($2::text[] is null or type like any ($2))
                   and ($3::text[] is null or aggregate_type = any ($3))
                   and ($4::jsonb is null or headers @> $4)
                   and ($7 = 1 or partition_of(ordering_key(aggregate_type, aggregate_id, headers, payload, $5, $6), seq, $7) = $8)
                 order by tx, seq
                 limit 10000)
               union all
               (select straggler.occurred_at
                  from pg_snapshot_xip(s.snapshot) x
                 cross join lateral (
                       select occurred_at from events
                        where tx >= x and tx <= x
                          and (s.window_seq is null or seq > s.window_seq or not pg_visible_in_snapshot(tx, s.window_snapshot))
                          and not seq <@ (select done from settled)
                          and ($2::text[] is null or type like any ($2))
                          and ($3::text[] is null or aggregate_type = any ($3))
                          and ($4::jsonb is null or headers @> $4)
                          and ($7 = 1 or partition_of(ordering_key(aggregate_type, aggregate_id, headers, payload, $5, $6), seq, $7) = $8)
                        order by tx, seq
                        limit 10000) straggler)
               limit 10000) first_events) unread
 where s.id = $1
