-- pause_handler: pause every partition of a handler; a partition that is paused already keeps its operator and reason. Locks its rows.
-- $1 handler, $2 who, $3 why.
update subscriptions
   set paused_at = clock_timestamp(), paused_by = $2, pause_reason = $3
 where handler = $1 and paused_at is null
