-- lock_handler: lock the subscriptions of a handler, so that no instance takes a lease on them; returns them and the owner of each lease that lives.
-- $1 handler.
select id, case when lease_until > clock_timestamp() then owner end as owner
  from subscriptions where handler = $1
 order by id
   for update
