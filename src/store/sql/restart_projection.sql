-- restart_projection: let a version read from the beginning again. Runs behind lock_handler, in the transaction that empties its target. A new
-- epoch fences the work of the owner, and `moves` tells the owner of the move. $1 subscription, $2 rate (null: as configured).
with moved as (
    update subscriptions
       set snapshot = '3:3:', low_seq = 0, high_seq = 0, window_snapshot = null, window_seq = null, window_high_seq = null, done = null,
           moved_at = clock_timestamp(), epoch = epoch + 1, moves = moves + 1
     where id = $1
    returning id)
update projections p
   set began_at = clock_timestamp(), handled = 0, skipped = 0, rate = $2, stopped_at = null, stopped_seq = null, stopped_event = null,
       stopped_type = null, attempts = 0, reason = null, detail = null
  from moved m
 where p.subscription = m.id
