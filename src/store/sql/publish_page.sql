-- publish_page: give each event of one page of an open window its place, in order of seq, and move the position behind the page.
-- Leaves out events that have a place already (after a rewind, or after a restore that included the feed), events that are done by the position,
-- and corrections as publish_window does; these not where headers cannot be read.
-- Relies on the primary key of events and the index on feed.seq; looks at $8 numbers at most. Locks the subscription and one row of
-- feed_places. Fence: the epoch, the snapshot, and the place in the window. Commits synchronously, as publish_window does.
-- $1 subscription, $2 epoch, $3 the position's snapshot, $4 the window's, $5 after this seq, $6 up to this seq, $7 the sequence before the
-- window was opened, $8 span, $9 most rows, $10 type patterns, $11 timeline, $12 whether the window is not stored yet,
-- $13 whether headers can be read.
-- Returns how many were given a place, whether the position moved, whether the server is on the timeline, where the page ends, and the
-- last place.
with moment as materialized (
    select left(pg_walfile_name(pg_current_wal_lsn()), 8) = $11::text as is_same_timeline,
           set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), true) as commits),
wanted as materialized (
    select seq, type
      from events
     where seq > $5::bigint and seq <= least($6::bigint, $5 + $8::bigint)
       and not pg_visible_in_snapshot(tx, (select $3::text::pg_snapshot))
       and pg_visible_in_snapshot(tx, (select $4::text::pg_snapshot))
       and ($10::text[] is null or type like any ($10))
       and (select f.seq from feed f where f.seq = events.seq) is null
       and not coalesce(seq <@ (select s.done from subscriptions s where s.id = $1), false)
       and not case when $13::boolean then headers ? 'outboxd-only-for' else false end
     order by seq
     limit $9::bigint),
given as materialized (select count(*) as places, max(seq) as last_seq from wanted),
reached as materialized (
    select case when g.places >= $9 then g.last_seq
                when g.places > 0 or $5 + $8 >= $6 then least($6, $5 + $8)
                -- A stretch without rows may be a jump of the sequence.
                else coalesce((select e.seq - 1 from events e where e.seq > $5 + $8 and e.seq <= $6 order by e.seq limit 1), $6)
           end as read_to
      from given g),
moved as (
    update subscriptions s
       set snapshot = case when r.read_to >= $6 then $4::pg_snapshot else s.snapshot end,
           low_seq = case when r.read_to >= $6 then least(greatest($7::bigint, s.high_seq), $6) else s.low_seq end,
           high_seq = case when r.read_to >= $6 then $6 else s.high_seq end,
           window_snapshot = case when r.read_to < $6 then $4::pg_snapshot end,
           window_seq = case when r.read_to < $6 then r.read_to end,
           window_high_seq = case when r.read_to < $6 then $6 end,
           done = case when r.read_to < $6 then s.done end,
           moved_at = clock_timestamp()
      from moment m, reached r
     where s.id = $1 and s.epoch = $2 and s.snapshot::text = $3 and m.is_same_timeline
       and coalesce(s.window_snapshot::text = $4 and s.window_seq = $5, $12::boolean)
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
    select c.base + row_number() over (order by w.seq), w.seq,
           coalesce((select k.id from types k where k.type = w.type), (select k.id from new_types k where k.type = w.type))
      from wanted w cross join counted c)
select g.places, exists (select from moved) as is_moved, m.is_same_timeline, r.read_to, (select last_place from counted) as last_place
  from moment m cross join reached r cross join given g
