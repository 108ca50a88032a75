-- count_unfinished: rows that will be attempted again, when an owner begins. Relies on deliveries_parked. $1 subscription, $2 count no further.
-- The range and the order keep the plan to that index, as in read_backlog.
select count(*)
  from (select 1 from deliveries
         where subscription >= $1 and subscription <= $1 and state in ('retrying', 'waiting')
         order by subscription, seq limit $2) parked
