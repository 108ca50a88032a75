-- lock_handler: the subscriptions of a handler, so that nobody takes a lease on them, and the owner of each lease that lives.
-- $1 handler.
select id, case when lease_until > clock_timestamp() then owner end as owner
  from subscriptions where handler = $1
 order by id
   for update
