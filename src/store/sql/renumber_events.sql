-- renumber_events: events of transactions that this server does not know to be finished lie before every position here: transaction
-- 3 is the first a cluster can have, and visible in every snapshot but that of the beginning. Behind lock_events. Writes the rows.
-- $1 snapshot of now.
update events set tx = '3' where not pg_visible_in_snapshot(tx, $1::pg_snapshot)
