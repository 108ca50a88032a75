-- cancel_replay_items: cancel the items that were not sent; their deliveries were never changed. Runs behind cancel_replay. Locks the rows in the
-- order in which a discard does, so that the two cannot wait for one another. $1 replay.
with held as materialized (
    select i.subscription, i.seq
      from replay_items i
     where i.replay = $1 and i.state = 'held'
     order by i.subscription, i.seq
       for update)
update replay_items i
   set state = 'cancelled', ended_at = clock_timestamp()
  from held h
 where i.replay = $1 and i.subscription = h.subscription and i.seq = h.seq
