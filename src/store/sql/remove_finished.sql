-- remove_finished: one chunk of retention, in order of seq: events that are old enough, that every subscription has passed and no handler is owed.
-- An event is old when it says so itself, or when its transaction was seen finished that long ago: `occurred_at` may lie ahead.
-- Sourced events stay: they are walked over whatever their age is, by their numbers alone.
-- Looks at one event where the first is not old; at none behind the first subscription (`horizon`), however far the log goes on. Walking on,
-- it stops at the first that is not old. Events that stay behind are checked again with $5, within $4.
-- Relies on the primary key of events, stream_events_seq_key, moments_pkey, deliveries_unfinished and replay_items_open. Locks only the rows that it removes.
-- $1 after this seq, $2 microseconds to keep, $3 rows to look at, $4 up to this seq (null: as far as may be), $5 whether this is another
-- look at what was left. Returns the last seq walked over (null: none), the number removed, whether there may be more, and how many were sourced.
with passed as materialized (select snapshot, high_seq from subscriptions),
horizon as materialized (
    -- A subscription that begins before everything has passed nothing, whatever its numbers say.
    select coalesce(min(case when pg_snapshot_xmax(snapshot) <= '3'::xid8 then 0 else high_seq end), 9223372036854775807) as seq,
           min(pg_snapshot_xmin(snapshot)::text::numeric) as xmin
      from passed),
bound as materialized (
    select clock_timestamp() - $2 * interval '1 microsecond' as old_at, least(h.seq, coalesce($4, h.seq)) as seq, h.xmin,
           (select m.snapshot from moments m where m.at < (select clock_timestamp() - $2 * interval '1 microsecond') order by m.at desc limit 1) as snapshot
      from horizon h),
head as (
    select (select v.seq from stream_events v where v.seq = e.seq limit 1) is not null
           or e.occurred_at < b.old_at or coalesce(pg_visible_in_snapshot(e.tx, b.snapshot), false) as is_old
      from bound b
     cross join lateral (select seq, tx, occurred_at from events where seq > $1 and seq <= b.seq order by seq limit 1) e),
-- Numbers first, from the index alone: a log may hold millions of sourced events, and none of them is looked at.
numbers as materialized (
    select n.seq, (select v.seq from stream_events v where v.seq = n.seq limit 1) is not null as is_sourced
      from bound b
     cross join lateral (
           select seq from events
            where seq > $1 and seq <= b.seq
            order by seq limit (select case when $5 or is_old then $3 else 0 end from head)) n),
looked_at as materialized (
    select n.seq, e.tx, e.aggregate_type, e.aggregate_id, e.aggregate_version,
           e.occurred_at < b.old_at or coalesce(pg_visible_in_snapshot(e.tx, b.snapshot), false) as is_old
      from numbers n
     cross join bound b
     cross join lateral (select tx, occurred_at, aggregate_type, aggregate_id, aggregate_version from events where seq = n.seq limit 1) e
     where not n.is_sourced),
walked as materialized (
    select seq, is_sourced from numbers
     where $5 or seq < coalesce((select min(seq) from looked_at where not is_old), 9223372036854775807)),
old as materialized (
    select seq, tx, aggregate_type, aggregate_id, aggregate_version from looked_at
     where is_old and ($5 or seq < coalesce((select min(seq) from looked_at where not is_old), 9223372036854775807))),
removable as (
    select o.seq
      from old o
     cross join bound b
     where (select d.seq from deliveries d where d.seq = o.seq and d.state in ('retrying', 'waiting', 'dead') limit 1) is null
       and (select i.seq from replay_items i where i.seq = o.seq and i.state in ('held', 'released') limit 1) is null
       -- A second witness: if rows of stream_events were lost, in a restore or by hand, their events say so themselves and stay.
       and (o.aggregate_version is null
            or (select s.id from streams s where s.type = o.aggregate_type and s.key = o.aggregate_id limit 1) is null)
       and (b.xmin is null or o.tx::text::numeric < b.xmin
            or not exists (select 1 from passed p where not pg_visible_in_snapshot(o.tx, p.snapshot)))),
gone as (delete from events where seq = any (array(select seq from removable)) returning seq, id, occurred_at),
-- By arrays and not by joins: a join with the rows just removed is planned as a scan of all deliveries (seen on 18).
gone_deliveries as (
    delete from deliveries
     where subscription = any (array(select id from subscriptions)) and seq = any (array(select seq from gone))),
gone_attempts as (
    delete from attempts
     where subscription = any (array(select id from subscriptions)) and seq = any (array(select seq from gone))),
-- A place goes with its event; the highest removed place shows a client whether it has missed any.
gone_places as (delete from feed where seq = any (array(select seq from gone)) returning place, seq),
gone_feed as (
    update feed_removed r
       set events = r.events + g.events, place = greatest(r.place, g.place),
           event = case when g.place > r.place then g.id else r.event end,
           occurred_at = case when g.place > r.place then g.occurred_at else r.occurred_at end
      from (select p.place, e.id, e.occurred_at, count(*) over () as events
              from gone_places p join gone e on e.seq = p.seq order by p.place desc limit 1) g)
select (select max(seq) from walked) as last_seq, (select count(*) from gone) as removed,
       (select count(*) from numbers) >= $3 and ($5 or not exists (select 1 from looked_at where not is_old)) as has_more,
       (select count(*) from walked where is_sourced) as sourced
