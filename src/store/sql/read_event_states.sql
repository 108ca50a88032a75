-- read_event_states: the state of one event at every handler that wants it. Through the view, whose join begins at the unique
-- index on id. Locks nothing. $1 id, $2 handler (null: all).
select v.handler, v.partition, v.state, v.attempts, v.key, v.first_attempt_at, v.due_at,
       (extract(epoch from v.due_at - clock_timestamp()) * 1000000)::bigint as due_in_micros,
       v.reason, v.status, v.detail, v.handled_at, v.replay
  from event_states v
 where v.id = $1 and ($2::text is null or v.handler = $2)
 order by v.handler, v.partition
