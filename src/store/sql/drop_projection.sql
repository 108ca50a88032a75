-- drop_projection: a version is gone; its row stays, so that its number is not used again. Runs behind remove_handler. $1 name, $2 version.
update projections
   set dropped_at = clock_timestamp(), subscription = null, is_live = false, live_since = null, stopped_at = null, stopped_seq = null,
       stopped_event = null, stopped_type = null, attempts = 0, reason = null, detail = null
 where name = $1 and version = $2
