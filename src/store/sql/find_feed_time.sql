-- find_feed_time: a place behind which everything lies that was committed after a time, and as little else as a search finds quickly.
-- By the last stored moment before that time: transactions that its snapshot does not see committed later. Places follow the windows of the
-- publisher, so events that the moment sees come first, but within one window both are mixed: the search halves the range of places, and
-- then goes back to the first of the $2 places before that the moment does not see.
-- Some twenty probes of feed_pkey and events_pkey, and $2 at the end. $1 time, $2 places to look back at. Without a moment: 0.
with recursive moment as materialized (select snapshot from moments where at <= $1 order by at desc limit 1),
search (low, high, step) as (
    select coalesce((select place from feed_removed), 0), coalesce((select places from feed_places), 0), 0
    union all
    select case when m.is_seen then m.place else s.low end, case when m.is_seen then s.high else s.low + (s.high - s.low) / 2 end, s.step + 1
      from search s
     cross join lateral (
           select f.place, pg_visible_in_snapshot(e.tx, (select snapshot from moment)) as is_seen
             from feed f join events e on e.seq = f.seq
            where f.place > s.low + (s.high - s.low) / 2 and f.place <= s.high
            order by f.place
            limit 1) m
     where s.high - s.low > 1 and s.step < 128),
behind as materialized (select low from search order by step desc limit 1)
select coalesce((select min(x.place) - 1
                   from (select f.place, e.tx
                           -- A range and no limit: without statistics a limit is sorted for, and all places are read.
                           from (select place, seq from feed
                                  where place <= (select low from behind) and place > (select low from behind) - $2::bigint) f
                          cross join lateral (select tx from events where seq = f.seq offset 0) e) x
                  where not pg_visible_in_snapshot(x.tx, (select snapshot from moment))),
                case when (select snapshot from moment) is null then 0 else (select low from behind) end)
