-- add_partitions: the partitions that a handler does not have yet, as copies of its first. Runs behind lock_registration and
-- lock_handler; place_partitions gives them their position. $1 handler, $2 partitions.
insert into subscriptions (handler, partition, partitions, kind, type_patterns, aggregate_types, required_headers, key_source, key_path,
                           snapshot, low_seq, high_seq, paused_at, paused_by, pause_reason)
select s.handler, n, s.partitions, s.kind, s.type_patterns, s.aggregate_types, s.required_headers, s.key_source, s.key_path,
       s.snapshot, s.low_seq, s.high_seq, s.paused_at, s.paused_by, s.pause_reason
  from subscriptions s
 cross join generate_series(1, $2 - 1) n
 where s.handler = $1 and s.partition = 0
    on conflict (handler, partition) do nothing
