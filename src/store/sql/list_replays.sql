-- list_replays: the newest replays, or one, each with the outcomes of its set. Of one that has ended the outcome is written down, of
-- another the items are counted, by their primary key. Locks nothing. Relies on replays_by_time. $1 id (null: all), $2 rows, $3 and $4 moment and id of the last
-- replay of the page before (null: the first page).
select r.id, r.at, r.actor, r.handler, r.filter::text as filter, r.note, r.asked, r.rate,
       case when r.state = 'running' and counted.open = 0 then 'done' else r.state end as state, r.cancelled_by, r.ended_at,
       coalesce(r.delivered, counted.delivered) as delivered, coalesce(r.failed, counted.failed) as failed,
       coalesce(r.dropped, counted.dropped) as dropped, coalesce(r.cancelled, counted.cancelled) as cancelled,
       counted.held, counted.released,
       (select array_agg(distinct s.handler) from subscriptions s
         where (s.owner is null or s.lease_until < clock_timestamp() or s.paused_at is not null or s.circuit <> 'closed')
           and exists (select 1 from replay_items i where i.subscription = s.id and i.replay = r.id and i.state in ('held', 'released'))
       ) as stopped
  from (select * from replays
         where ($1::uuid is null or id = $1) and ($3::timestamptz is null or (at, id) < ($3, $4::uuid))
         order by at desc, id desc limit $2) r
 cross join lateral (
       select count(*) filter (where state = 'delivered') as delivered, count(*) filter (where state = 'failed') as failed,
              count(*) filter (where state = 'dropped') as dropped, count(*) filter (where state = 'cancelled') as cancelled,
              count(*) filter (where state = 'held') as held, count(*) filter (where state = 'released') as released,
              count(*) filter (where state in ('held', 'released')) as open
         from replay_items where replay = r.id and r.delivered is null) counted
 order by r.at desc, r.id desc
