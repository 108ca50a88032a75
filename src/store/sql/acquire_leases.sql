-- acquire_leases: take free subscriptions, skipping those that another instance is taking this moment.
-- `was_abandoned`: the last owner did not give the lease back. $1 instance, $2 lease in microseconds, $3 subscriptions we can
-- serve, $4 at most.
update subscriptions s
   set owner = $1, lease_until = clock_timestamp() + $2 * interval '1 microsecond', epoch = s.epoch + 1
  from (select id, owner from subscriptions
         where id = any ($3::integer[]) and (owner is null or lease_until < clock_timestamp()) and owner is distinct from $1
         order by partition, id
         limit $4
           for update skip locked) free
 where s.id = free.id
returning s.id, s.paused_at is not null as is_paused, s.moves, s.circuit_closings, free.owner is not null as was_abandoned
