-- read_handler_partitions: the handlers that have a subscription. A small table.
select handler, max(partitions) as partitions from subscriptions group by handler order by handler
