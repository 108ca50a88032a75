-- acquire_leases: take free subscriptions, skipping those that another instance is taking this moment.
-- Only under the name and the number of partitions that we know: an operator may have changed both, and then our memory of it is wrong.
-- `was_abandoned`: the last owner did not give the lease back. $1 instance, $2 lease in microseconds, $3 subscriptions we can
-- serve, $4 at most, $5 their handlers, $6 their partitions.
update subscriptions s
   set owner = $1, lease_until = clock_timestamp() + $2 * interval '1 microsecond', epoch = s.epoch + 1
  from (select o.id, o.owner
          from unnest($3::integer[], $5::text[], $6::integer[]) as served (id, handler, partitions)
          join subscriptions o on o.id = served.id and o.handler = served.handler and o.partitions = served.partitions
         where (o.owner is null or o.lease_until < clock_timestamp()) and o.owner is distinct from $1
         order by o.partition, o.id
         limit $4
           for update of o skip locked) free
 where s.id = free.id
returning s.id, s.paused_at is not null as is_paused, s.moves, s.circuit_closings, free.owner is not null as was_abandoned
