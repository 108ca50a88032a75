-- count_pending: the unfinished events of one handler, counted in two ways: the snapshot of its position, and the highest number that this
-- snapshot can have seen. Relies on the primary key of events and on events_window. Locks nothing. $1 handler.
-- `both`: the two agree. `late`: only the snapshot says pending, as for a transaction that overtook the position's: normal.
-- `again`: only the snapshot says so, and no such transaction explains it: it would be delivered again. `lost`: only the number
-- says so: it would never be delivered. The last two happen where transaction numbers began anew.
with mine as materialized (select s.* from subscriptions s where s.handler = $1),
unfinished as (
    select e.seq,
           case when not pg_visible_in_snapshot(e.tx, s.snapshot) and e.seq > s.high_seq then 'both'
                when e.seq > s.high_seq then 'lost'
                when e.seq > s.low_seq or e.tx = any (array(select pg_snapshot_xip(s.snapshot))) then 'late'
                else 'again' end as witness
      from mine s
      join events e on e.seq > s.high_seq or e.tx >= pg_snapshot_xmax(s.snapshot) or e.tx = any (array(select pg_snapshot_xip(s.snapshot)))
     where wants(s, e)
       and not coalesce(e.seq <@ s.done, false)
       and not coalesce(e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot), false)
       and not exists (select 1 from deliveries o where o.subscription in (select id from mine) and o.seq = e.seq))
select (select count(*) from mine) as partitions,
       count(distinct seq) filter (where witness = 'both') as both,
       count(distinct seq) filter (where witness = 'late') as late,
       count(distinct seq) filter (where witness = 'again') as again,
       count(distinct seq) filter (where witness = 'lost') as lost,
       min(seq) filter (where witness in ('again', 'lost')) as first_in_doubt
  from unfinished
