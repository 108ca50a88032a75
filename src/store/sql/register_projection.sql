-- register_projection: make sure that a version of a projection exists, and store its target and view. Runs under the lock of
-- the registration, behind register_subscription. The first version of a projection, and one after all others were dropped, is live.
-- $1 name, $2 version, $3 its handler, $4 target, $5 view.
insert into projections as p (name, version, subscription, target, view, is_live, live_since)
select $1, $2, s.id, $4, $5, l.is_first, case when l.is_first then clock_timestamp() end
  from subscriptions s
 cross join lateral (select not exists (select from projections o where o.name = $1 and o.is_live) as is_first) l
 where s.handler = $3 and s.partition = 0
    on conflict (name, version) do update
   set subscription = excluded.subscription, target = excluded.target, view = excluded.view
 where p.dropped_at is null
   and (p.subscription, p.target, p.view) is distinct from (excluded.subscription, excluded.target, excluded.view)
