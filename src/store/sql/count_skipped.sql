-- count_skipped: what moving a subscription forwards to a number would skip: events without an outcome below it, visible in the snapshot.
-- And what stays owed below it, because it has a row. Relies on events_window, on the primary key of deliveries and on deliveries_by_key.
-- Locks nothing. $1 subscription, $2 first number, $3 snapshot, $4 bound of the count.
select (select count(*) from (
            select 1 from events e
             where (e.tx >= pg_snapshot_xmax(s.snapshot) or e.tx = any (array(select pg_snapshot_xip(s.snapshot))))
               and e.seq < $2 and pg_visible_in_snapshot(e.tx, $3::pg_snapshot)
               and not (s.window_seq is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot))
               and (s.done is null or not e.seq <@ s.done)
               and wants(s, e)
               and (s.partitions = 1 or partition_of(ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path), e.seq, s.partitions) = s.partition)
               -- A scalar subquery, because `not exists` may become a join with all deliveries when statistics are old.
               and (select d.seq from deliveries d where d.subscription = s.id and d.seq = e.seq) is null
             limit $4) skipped) as skipped,
       (select count(*) from deliveries where subscription = s.id and seq < $2 and state in ('retrying', 'waiting')) as kept
  from subscriptions s
 where s.id = $1
