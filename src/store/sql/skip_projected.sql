-- skip_projected: pass over the event at which a projection stands. Runs behind lock_handler. The position is in a window just before the event,
-- where stop_projection has left it. A new epoch fences the work of the owner, and `moves` tells the owner of the move.
-- $1 subscription, $2 id of the event, $3 actor, $4 why. Returns the type of the event; no row: the projection does not stand at it.
with stopped as materialized (
    select p.name, p.version, p.subscription, p.stopped_seq, p.stopped_event, p.stopped_type, p.detail
      from projections p
      join subscriptions s on s.id = p.subscription
     where p.subscription = $1 and p.stopped_event = $2 and s.window_snapshot is not null and s.window_seq < p.stopped_seq),
moved as (
    update subscriptions s
       set window_seq = t.stopped_seq, moved_at = clock_timestamp(), epoch = s.epoch + 1, moves = s.moves + 1
      from stopped t
     where s.id = t.subscription
    returning s.id),
counted as (
    update projections p
       set handled = p.handled + 1, skipped = p.skipped + 1, stopped_at = null, stopped_seq = null, stopped_event = null,
           stopped_type = null, attempts = 0, reason = null, detail = null
      from moved m
     where p.subscription = m.id)
insert into projection_skips (name, version, seq, event, type, skipped_by, because, detail)
select t.name, t.version, t.stopped_seq, t.stopped_event, t.stopped_type, $3, $4, t.detail
  from stopped t
  join moved m on m.id = t.subscription
returning type
