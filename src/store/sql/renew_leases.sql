-- renew_leases: keep what we own, and learn what people asked for. Locks our rows only.
-- $1 instance, $2 lease in microseconds. Returns one row per subscription still ours.
update subscriptions
   set lease_until = clock_timestamp() + $2 * interval '1 microsecond'
 where owner = $1
returning id, paused_at is not null as is_paused
