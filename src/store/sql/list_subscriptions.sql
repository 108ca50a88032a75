-- list_subscriptions: every subscription with its partition count and filter. A small table.
select id, handler, partition, partitions, kind, type_patterns, aggregate_types, required_headers, key_source, key_path
  from subscriptions order by handler, partition
