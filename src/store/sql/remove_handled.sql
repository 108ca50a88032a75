-- remove_handled: remove a chunk of the deliveries of one subscription for events of streams that ended long ago, with their history. The events stay, and without
-- a row they are events that every position has passed, as where successes leave none. Relies on the primary keys of deliveries and events,
-- stream_events_seq_key, replay_items_open and attempts_by_delivery. Locks the rows that it removes. $1 subscription, $2 after this seq, $3 up to this seq,
-- $4 microseconds to keep, $5 rows to look at. Returns the last seq looked at (null: none), the number removed, and whether there may be more.
with passed as materialized (select snapshot from subscriptions),
looked_at as materialized (
    select seq, state in ('delivered', 'discarded') and handled_at < clock_timestamp() - $4 * interval '1 microsecond' as is_old
      from deliveries
     where subscription = $1 and seq > $2 and seq <= $3
     order by seq limit $5),
old as materialized (
    select l.seq from looked_at l
     where l.is_old
       and (select v.seq from stream_events v where v.seq = l.seq limit 1) is not null
       and (select i.seq from replay_items i where i.seq = l.seq and i.state in ('held', 'released') limit 1) is null),
-- A row above the position of another partition prevents a repartition from delivering the event again.
removable as (
    select o.seq from old o
     cross join lateral (select tx from events where seq = o.seq limit 1) e
     where not exists (select 1 from passed p where not pg_visible_in_snapshot(e.tx, p.snapshot))),
gone as (delete from deliveries where subscription = $1 and seq = any (array(select seq from removable)) returning seq),
gone_attempts as (delete from attempts where subscription = $1 and seq = any (array(select seq from gone)))
select (select max(seq) from looked_at) as last_seq, (select count(*) from gone) as removed, (select count(*) from looked_at) >= $5 as has_more
