-- find_existing: which of the subscriptions that a relay serves are still there. Relies on the primary key. $1 subscriptions.
select id from subscriptions where id = any ($1::integer[])
