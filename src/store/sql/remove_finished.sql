-- remove_finished: one chunk of retention: events older than the bound that every subscription has passed and nobody owes.
-- Relies on the primary key of events, deliveries_unfinished and replay_items_open. Locks only what it removes.
-- $1 after this seq, $2 microseconds to keep, $3 rows to look at. Returns the last seq looked at (null: none left) and the number removed.
with looked_at as (
    select seq, tx from events
     where seq > $1 and occurred_at < clock_timestamp() - $2 * interval '1 microsecond'
     order by seq limit $3),
removable as (
    select seq from looked_at l
     where not exists (select 1 from deliveries d where d.seq = l.seq and d.state in ('retrying', 'waiting', 'dead'))
       and not exists (select 1 from replay_items i where i.seq = l.seq and i.state in ('held', 'released'))
       and not exists (select 1 from subscriptions s where not pg_visible_in_snapshot(l.tx, s.snapshot))),
gone as (delete from events where seq in (select seq from removable) returning seq),
-- By arrays and not by joins: a join with the rows just removed is planned as a scan of all deliveries (seen on 18).
gone_deliveries as (
    delete from deliveries
     where subscription = any (array(select id from subscriptions)) and seq = any (array(select seq from gone))),
gone_attempts as (
    delete from attempts
     where subscription = any (array(select id from subscriptions)) and seq = any (array(select seq from gone)))
select (select max(seq) from looked_at) as last_seq, (select count(*) from gone) as removed
