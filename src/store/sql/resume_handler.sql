-- resume_handler: let a held handler go on. Locks its rows. $1 handler.
update subscriptions
   set paused_at = null, paused_by = null, pause_reason = null
 where handler = $1 and paused_at is not null
