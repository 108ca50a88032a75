-- count_again: what moving a subscription back to a number would deliver again: events from it on that have an outcome. A discarded
-- delivery stays discarded. Relies on the primary keys of events and deliveries, and on deliveries_by_key. Locks nothing.
-- $1 subscription, $2 first number, $3 bound of the count.
select (select count(*) from (
            select 1 from events e
              left join lateral (select d.state from deliveries d where d.subscription = s.id and d.seq = e.seq) d on true
             where e.seq >= $2
               and wants(s, e)
               and (s.partitions = 1 or partition_of(ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path), e.seq, s.partitions) = s.partition)
               and d.state is distinct from 'discarded'
               and (d.state is not null or pg_visible_in_snapshot(e.tx, s.snapshot) or (s.done is not null and e.seq <@ s.done)
                    or (s.window_seq is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot)))
             limit $3) again) as again,
       (select count(*) from deliveries where subscription = s.id and seq >= $2 and state = 'dead') as dead
  from subscriptions s
 where s.id = $1
