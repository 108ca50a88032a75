-- drop_partitions: drop the removed partitions of a handler, with their progress. Runs behind move_deliveries, which has left them empty.
-- $1 handler, $2 partitions.
with gone as (delete from subscriptions where handler = $1 and partition >= $2 returning id)
delete from progress where subscription in (select id from gone)
