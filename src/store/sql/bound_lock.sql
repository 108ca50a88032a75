-- bound_lock: how long this transaction waits for a lock. $1 with its unit.
select set_config('lock_timeout', $1, true)
