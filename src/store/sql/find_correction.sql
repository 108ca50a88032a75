-- find_correction: whether an event of this id is in the log, and whether it is this very correction: of that event, for that handler, with
-- that payload. Relies on the unique index on id. Locks nothing. $1 id, $2 handler, $3 the event that it corrects, $4 payload.
-- Called by store::corrections.
select headers ->> 'outboxd-corrects' = $3::text and headers ->> 'outboxd-only-for' = $2 and payload::text = $4 as is_same
  from events
 where id = $1
