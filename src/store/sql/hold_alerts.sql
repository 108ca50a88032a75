-- hold_alerts: the fence before every write of the alerts' owner, which also renews its lease. Locks the one row until the end of
-- the transaction. $1 epoch, $2 lease in microseconds. No row: the lease is lost.
update alert_lease
   set lease_until = clock_timestamp() + $2 * interval '1 microsecond'
 where epoch = $1 and owner is not null
returning clock_timestamp()
