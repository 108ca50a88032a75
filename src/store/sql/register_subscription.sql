-- register_subscription: make sure that a partition of a handler exists, and store its filter for the view. Never moves a position.
-- $1 handler, $2 partition, $3 partitions, $4 kind, $5 type patterns, $6 aggregate types, $7 headers,
-- $8 whether a new one begins before the first event, $9 the sequence as an earlier statement saw it, $10 key source, $11 key path.
insert into subscriptions as s (handler, partition, partitions, kind, type_patterns, aggregate_types, required_headers, key_source, key_path, snapshot, low_seq, high_seq)
select $1, $2, $3, $4, $5, $6, $7, $10, $11,
       case when $8 then '3:3:'::pg_snapshot else pg_current_snapshot() end,
       case when $8 then 0 else $9 end, case when $8 then 0 else last_seq() end
    on conflict (handler, partition) do update
   set kind = excluded.kind, type_patterns = excluded.type_patterns, aggregate_types = excluded.aggregate_types,
       required_headers = excluded.required_headers, key_source = excluded.key_source, key_path = excluded.key_path
 where s.partitions = excluded.partitions
   and (s.kind, s.type_patterns, s.aggregate_types, s.required_headers, s.key_source, s.key_path)
       is distinct from (excluded.kind, excluded.type_patterns, excluded.aggregate_types, excluded.required_headers, excluded.key_source, excluded.key_path)
