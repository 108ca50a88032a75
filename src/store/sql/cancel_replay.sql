-- cancel_replay: a replay that goes on ends here. Locks its row first, so that no relay releases any more of it. No row: it is not
-- running, or all of it has left. Relies on replay_items_unfinished. $1 id, $2 actor.
update replays
   set state = 'cancelled', cancelled_by = $2
 where id = $1 and state = 'running' and delivered is null
   and exists (select 1 from replay_items i where i.replay = $1 and i.state = 'held')
returning handler
