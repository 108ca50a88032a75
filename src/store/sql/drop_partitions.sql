-- drop_partitions: the partitions that a handler has no longer, with what a relay said of them. Runs behind move_deliveries, which has left them empty.
-- $1 handler, $2 partitions.
with gone as (delete from subscriptions where handler = $1 and partition >= $2 returning id)
delete from progress where subscription in (select id from gone)
