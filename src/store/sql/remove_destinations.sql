-- remove_destinations: remove destinations that work again; the deliveries that wait for them are due now. Behind the fence.
-- Relies on the primary key of destinations and on deliveries_by_destination. $1 subscription, $2 epoch, $3 names.
-- Called by store::destinations.
with mine as (select id from subscriptions where id = $1 and epoch = $2),
gone as (delete from destinations d using mine where d.subscription = mine.id and d.name = any ($3))
update deliveries d set due_at = clock_timestamp()
  from mine
 where d.subscription = mine.id and d.destination = any ($3)
   and d.state = 'retrying' and d.due_at > clock_timestamp()
