-- count_deliveries: how many deliveries of each handler match a filter. Locks nothing. $1 to $9 of the filter.
select s.handler, count(*) as deliveries
  from subscriptions s
  join deliveries d on d.subscription = s.id
 where {filter}
 group by s.handler
 order by s.handler
