-- renew_leases: keep what we own and can serve, and learn what people asked for. Locks our rows only.
-- $1 instance, $2 lease in microseconds, $3 subscriptions that we serve. Returns one row per subscription still ours.
update subscriptions
   set lease_until = clock_timestamp() + $2 * interval '1 microsecond'
 where owner = $1 and id = any ($3::integer[])
returning id, paused_at is not null as is_paused, moves, circuit_closings
