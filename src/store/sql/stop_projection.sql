-- stop_projection: the projection stands at an event. Runs behind record_position, which has fenced it. Locks one row.
-- $1 subscription, $2 sequence number of the event, $3 its id, $4 its type, $5 reason, $6 detail.
update projections
   set stopped_at = case when stopped_seq = $2 then stopped_at else clock_timestamp() end,
       attempts = case when stopped_seq = $2 then attempts else 0 end + 1,
       stopped_seq = $2, stopped_event = $3, stopped_type = $4, reason = $5, detail = $6
 where subscription = $1
