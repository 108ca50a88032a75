-- acquire_alerts: take the lease of the alerts if it is free, or if it is ours. Locks the one row, which the first makes.
-- $1 instance, $2 lease in microseconds. No row: another instance has it.
insert into alert_lease as l (owner, lease_until, epoch)
values ($1, clock_timestamp() + $2 * interval '1 microsecond', 1)
    on conflict (only_row) do update
   set owner = excluded.owner, lease_until = excluded.lease_until, epoch = l.epoch + 1
 where l.owner is null or l.owner = excluded.owner or l.lease_until < clock_timestamp()
returning epoch
