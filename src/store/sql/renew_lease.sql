-- renew_lease: as renew_leases for one subscription, whose row is waited for as long as the transaction's lock_timeout lets it.
-- $1 instance, $2 lease in microseconds, $3 subscription. No row: it is not ours any more.
update subscriptions
   set lease_until = clock_timestamp() + $2 * interval '1 microsecond'
 where owner = $1 and id = $3
returning id, paused_at is not null as is_paused, moves, circuit_closings, $2 as left_micros
