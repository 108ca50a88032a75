-- drop_replay_items: drop the open items of a replay from a sequence number on, when the log delivers their events again; without that the replay
-- would wait for ever. Runs behind lock_handler, and locks in the order in which a discard does. $1 subscription, $2 first number.
with open as materialized (
    select i.replay, i.seq
      from replay_items i
     where i.subscription = $1 and i.seq >= $2 and i.state in ('held', 'released')
     order by i.seq
       for update)
update replay_items i
   set state = 'dropped', ended_at = clock_timestamp()
  from open o
 where i.replay = o.replay and i.subscription = $1 and i.seq = o.seq
