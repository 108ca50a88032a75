-- find_unmatched_patterns: types that a handler waits for and that none of the newest events has, beside the types that these have.
-- Relies on the primary key of events. Looks at 100,000 events.
with recent as materialized (select type from events order by seq desc limit 100000),
types as materialized (select distinct type from recent),
wanted as (select distinct handler, unnest(type_patterns) as pattern from subscriptions)
select w.handler, w.pattern, (select array_agg(type order by type) from (select type from types order by type limit 200) t) as recorded
  from wanted w
 where exists (select 1 from types) and not exists (select 1 from types t where t.type like w.pattern)
 order by w.handler, w.pattern
