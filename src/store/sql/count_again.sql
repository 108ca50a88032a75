-- count_again: the events that moving a subscription back to a number would deliver again: those from it on that have an outcome. A discarded
-- delivery stays discarded. Relies on the primary keys of events and deliveries, and on deliveries_dead. Locks nothing.
-- Dead letters are read as a range of one subscription, as in read_backlog, all of them: they are few, and moving back takes them out.
-- $1 subscription, $2 first number, $3 events to look at: the owner waits meanwhile. `looked_at` tells whether there are more.
with seen as materialized (
    select is_again
      from subscriptions s
     cross join lateral (
           select wants(s, e)
                  and (s.partitions = 1 or partition_of(ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path), e.seq, s.partitions) = s.partition)
                  and d.state is distinct from 'discarded'
                  and (d.state is not null or pg_visible_in_snapshot(e.tx, s.snapshot) or (s.done is not null and e.seq <@ s.done)
                       or (s.window_seq is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot))) as is_again
             from (select * from events where seq >= $2 order by seq limit $3) e
             left join lateral (select state from deliveries where subscription = s.id and seq = e.seq limit 1) d on true) e
     where s.id = $1)
select (select count(*) from seen where is_again) as again,
       (select count(*)
          from (select seq from deliveries
                 where subscription >= $1 and subscription <= $1 and state = 'dead'
                 order by subscription, handled_at) dead
         where seq >= $2) as dead,
       (select count(*) from seen) as looked_at
