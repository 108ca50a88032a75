-- count_unfinished: rows that will be attempted again. Relies on deliveries_by_key. $1 subscription.
select count(*) from deliveries where subscription = $1 and state in ('retrying', 'waiting')
