-- find_unwanted_types: types among the newest events that no handler wants, however many subscriptions there are.
-- Relies on the primary key of events. Looks at 20,000 events.
select e.type, count(*) as events
  from (select * from events order by seq desc limit 20000) e
 where exists (select 1 from subscriptions)
   and not exists (select 1 from subscriptions s
                    where (s.type_patterns is null or e.type like any (s.type_patterns))
                      and (s.aggregate_types is null or e.aggregate_type = any (s.aggregate_types))
                      and (s.required_headers is null or e.headers @> s.required_headers))
 group by e.type
 order by e.type
 limit 50
