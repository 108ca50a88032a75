-- count_open_handlers: how many handlers have something open in a replay. Relies on replay_items_unfinished. $1 replay.
select count(distinct s.handler)
  from subscriptions s
 where exists (select 1 from replay_items i where i.replay = $1 and i.subscription = s.id and i.state in ('held', 'released'))
