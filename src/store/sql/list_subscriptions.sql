-- list_subscriptions: every subscription with its partition count. A small table.
select id, handler, partition, partitions from subscriptions order by handler, partition
