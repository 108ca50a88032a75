-- drop_partitions: the partitions that a handler has no longer. Runs behind move_deliveries, which has left them empty.
-- $1 handler, $2 partitions.
delete from subscriptions where handler = $1 and partition >= $2
