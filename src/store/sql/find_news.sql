-- find_news: whether an event has become visible since a snapshot was taken, and the snapshot of this look: one look for all loops that rest.
-- Relies on events_window; ordered on purpose, or a plan for "any row of these" would scan the log. Locks nothing. $1 snapshot.
-- A straggler is a range of one number, as in read_window.
with moment as materialized (select pg_current_snapshot() as snapshot)
select m.snapshot::text as snapshot,
       (select seq from events where tx >= pg_snapshot_xmax($1::pg_snapshot) order by tx, seq limit 1) is not null
       or exists (select 1
                    from pg_snapshot_xip($1::pg_snapshot) x
                   cross join lateral (select seq from events where tx >= x and tx <= x order by tx, seq limit 1) straggler) as has_news
  from moment m
