-- list_type_traffic: the types of the newest events: how many events each has, how many of them happened in the last five minutes, the newest
-- of them, and which handlers want the type by its name. Backwards on the primary key of events, as far as $1 events; locks nothing.
-- $1 events to look at, $2 types. Called by store::traffic.
select e.type, e.events, e.recent, e.last_at,
       array(select distinct s.handler from subscriptions s
              where s.type_patterns is null or e.type like any (s.type_patterns)
              order by s.handler) as handlers
  from (select type, count(*) as events, count(*) filter (where occurred_at > clock_timestamp() - interval '5 minutes') as recent,
               max(occurred_at) as last_at
          from (select type, occurred_at from events order by seq desc limit $1) newest
         group by type
         order by count(*) desc, type
         limit $2) e
 order by e.events desc, e.type
