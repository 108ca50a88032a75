-- publish_window: give each event of the next window its place, and move the position, in one statement in autocommit.
-- The snapshot is that of the statement, taken before its first write assigns a transaction id. That id is at or above the xmax of the
-- stored snapshot, so the publisher's own transaction lies in the future of the position.
-- Relies on events_window for both arms; `order by .. limit` in each, or the planner scans the log. Locks the subscription and one row of
-- feed_places. Fence: the epoch, and the snapshot as it was read (an epoch alone is no fence against a lost answer of one's own).
-- Order: the last seq of a transaction, then seq. A transaction that waited for another one's commit has the higher last seq, so the order
-- follows the order of commits per aggregate, and the events of a transaction stay together.
-- Commits synchronously: no reader sees a place before it is flushed, nor the event below it.
-- A correction (header outboxd-only-for) is for one handler and gets no place: clients have had the event that it corrects.
-- $1 subscription, $2 epoch, $3 its snapshot, $4 most rows, $5 type patterns (null: every type), $6 timeline, $7 whether to move over
-- nothing, too. Returns the rows of the window (one more than $4: it is larger, and nothing was written), how many of them were given a
-- place, whether the position moved, whether the server is on the timeline, the sequence, the end of the window, and the last place.
with moment as materialized (
    select pg_current_snapshot() as snapshot,
           set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), true) as commits),
reached as materialized (
    select case when is_called then last_value else 0 end as high_seq,
           left(pg_walfile_name(pg_current_wal_lsn()), 8) = $6::text as is_same_timeline
      from events_seq_seq),
in_window as materialized (
    (select seq, tx, type, headers ? 'outboxd-only-for' as is_addressed from events where tx >= pg_snapshot_xmax($3::text::pg_snapshot) order by tx, seq limit $4::bigint + 1)
    union all
    (select straggler.seq, straggler.tx, straggler.type, straggler.is_addressed
       from pg_snapshot_xip($3::text::pg_snapshot) x
      cross join lateral (
            select seq, tx, type, headers ? 'outboxd-only-for' as is_addressed from events where tx >= x and tx <= x order by tx, seq limit $4 + 1) straggler
      limit $4 + 1)),
size as materialized (select count(*) as rows from in_window),
wanted as materialized (
    select seq, type, row_number() over (order by last_seq, seq) as number
      from (select seq, type, max(seq) over (partition by tx) as last_seq from in_window
             where ($5::text[] is null or type like any ($5)) and not is_addressed) w),
given as materialized (select count(*) as places from wanted),
moved as (
    update subscriptions s
       set snapshot = m.snapshot, low_seq = least(s.high_seq, r.high_seq), high_seq = r.high_seq, moved_at = clock_timestamp()
      from moment m, reached r, size n
     where s.id = $1 and s.epoch = $2 and s.snapshot::text = $3 and s.window_snapshot is null
       and r.is_same_timeline and r.high_seq >= s.high_seq
       and n.rows between case when $7::boolean then 0 else 1 end and $4
    returning s.id),
counted as (
    update feed_places f set places = f.places + g.places
      from moved, given g
     where g.places > 0
    returning f.places as last_place, f.places - g.places as base),
new_types as (
    insert into types (id, type)
    select (select coalesce(max(id), 0) from types) + row_number() over (order by w.type), w.type
      from (select distinct type from wanted) w cross join counted
     where (select k.id from types k where k.type = w.type) is null
    returning id, type),
placed as (
    insert into feed (place, seq, type_id)
    select c.base + w.number, w.seq, coalesce((select k.id from types k where k.type = w.type), (select k.id from new_types k where k.type = w.type))
      from wanted w cross join counted c)
select n.rows, g.places, exists (select from moved) as is_moved, r.is_same_timeline, r.high_seq, m.snapshot::text as snapshot,
       (select last_place from counted) as last_place
  from moment m cross join reached r cross join size n cross join given g
