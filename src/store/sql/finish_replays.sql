-- finish_replays: write down the outcome of replays of which nothing is open any more. Relies on replays_open and
-- replay_items_unfinished; counts the items of a replay once. No parameters.
with ended as (
    select r.id
      from replays r
     where r.delivered is null
       and (select i.seq from replay_items i where i.replay = r.id and i.state in ('held', 'released')
             order by i.round, i.seq limit 1) is null
       for update skip locked)
update replays r
   set state = case r.state when 'running' then 'done' else r.state end, ended_at = clock_timestamp(),
       delivered = counted.delivered, failed = counted.failed, dropped = counted.dropped, cancelled = counted.cancelled
  from ended
 cross join lateral (
       select count(*) filter (where state = 'delivered') as delivered, count(*) filter (where state = 'failed') as failed,
              count(*) filter (where state = 'dropped') as dropped, count(*) filter (where state = 'cancelled') as cancelled
         from replay_items where replay = ended.id) counted
 where r.id = ended.id
