-- find_parked: which of these subscriptions have a delivery that will be attempted again: one probe each. For loops that rest and believe
-- that there is none. Relies on deliveries_parked. Locks nothing. $1 subscriptions. Called by store::progress.
select s.id
  from unnest($1::integer[]) s (id)
 cross join lateral (select seq from deliveries
                      where subscription = s.id and state in ('retrying', 'waiting')
                      order by subscription, seq limit 1) parked
