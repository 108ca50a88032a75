-- find_owed_event: an event at one handler: which subscription has it, its key, and in which state it is there. Runs behind lock_handler.
-- Relies on the unique index on id. $1 handler, $2 id. No row: the handler does not want it. Called by store::burials.
select s.id, e.seq, k.key, coalesce(d.state::text,
           case when pg_visible_in_snapshot(e.tx, s.snapshot) or e.seq <@ s.done
                  or (s.window_snapshot is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot))
                then 'passed' else 'pending' end) as state
  from events e
 cross join subscriptions s
 cross join lateral (select ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path) as key) k
  left join deliveries d on d.subscription = s.id and d.seq = e.seq
 where e.id = $2 and s.handler = $1 and wants(s, e)
   and (d.seq is not null or s.partition = partition_of(k.key, e.seq, s.partitions))
 order by d.seq is null
 limit 1
