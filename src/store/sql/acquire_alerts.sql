-- acquire_alerts: take the right to look after the alerts if nobody has it, or if it is ours. Locks the one row.
-- $1 instance, $2 lease in microseconds. No row: somebody else has it.
update alert_lease
   set owner = $1, lease_until = clock_timestamp() + $2 * interval '1 microsecond', epoch = epoch + 1
 where owner is null or owner = $1 or lease_until < clock_timestamp()
returning epoch
