-- record_projected: events have been projected, in the transaction of the function and behind record_position, whose lock a switch takes
-- first. The projection stands no more. Returns whether the version is live: a switch may have come in between. Locks one row.
-- $1 subscription, $2 events.
update projections
   set handled = handled + $2, stopped_at = null, stopped_seq = null, stopped_event = null, stopped_type = null,
       attempts = 0, reason = null, detail = null
 where subscription = $1
returning is_live
