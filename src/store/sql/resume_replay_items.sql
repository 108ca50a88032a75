-- resume_replay_items: hold the cancelled items again, except those that were discarded or replayed since. Runs behind
-- resume_replay. Relies on the primary keys and replay_items_open. $1 replay.
update replay_items i
   set state = 'held', ended_at = null
 where i.replay = $1 and i.state = 'cancelled'
   and exists (select 1 from deliveries d where d.subscription = i.subscription and d.seq = i.seq and d.state = i.was)
   and not exists (select 1 from replay_items o
                    where o.seq = i.seq and o.subscription = i.subscription and o.state in ('held', 'released'))
