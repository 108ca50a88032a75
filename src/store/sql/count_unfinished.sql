-- count_unfinished: rows that will be attempted again, when an owner begins. Relies on deliveries_parked. $1 subscription, $2 count no further.
select count(*) from (select 1 from deliveries where subscription = $1 and state in ('retrying', 'waiting') limit $2) parked
