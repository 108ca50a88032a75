-- resume_replay: a cancelled replay goes on. No row: it was not cancelled. Runs behind lock_replays. $1 id.
update replays
   set state = 'running', cancelled_by = null, ended_at = null, next_at = clock_timestamp(),
       delivered = null, failed = null, dropped = null, cancelled = null
 where id = $1 and state = 'cancelled'
returning handler
