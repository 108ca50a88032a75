-- pause_handler: hold every partition of a handler; one that is held already keeps who held it and why. Locks its rows.
-- $1 handler, $2 who, $3 why.
update subscriptions
   set paused_at = clock_timestamp(), paused_by = $2, pause_reason = $3
 where handler = $1 and paused_at is null
