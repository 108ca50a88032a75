-- cancel_replay: a replay that goes on ends here. Locks its row first, so that no relay releases any more of it. No row: it is not
-- running. $1 id, $2 actor.
update replays set state = 'cancelled', cancelled_by = $2 where id = $1 and state = 'running' and delivered is null returning handler
