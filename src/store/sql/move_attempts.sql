-- move_attempts: the attempts of a handler into the partition that their event belongs to. Runs behind place_partitions.
-- A row whose event retention has removed goes where an event without a key would.
-- Relies on the primary key of events. $1 handler. Returns how many have moved.
with own as materialized (select id, partition, partitions, key_source, key_path from subscriptions where handler = $1),
moved as (
    update attempts d
       set subscription = t.id
      from own s
     cross join own t
     where d.subscription = s.id and t.id <> s.id
       and t.partition = partition_of((select ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, t.key_source, t.key_path)
                                         from events e where e.seq = d.seq), d.seq, t.partitions)
    returning 1)
select count(*) from moved
