-- find_pending_events: of these events, which a handler has not received yet: not read, retrying or waiting. $1 seqs. Relies on the primary
-- keys of events and deliveries; locks nothing. Returns one row per event and handler.
select distinct seq, handler
  from event_states
 where seq = any ($1) and state in ('pending', 'retrying', 'waiting')
 order by seq, handler
