-- rekey_deliveries: set the ordering key of unfinished deliveries, after the key setting of a handler has changed. Runs behind place_partitions.
-- A waiting delivery that no longer has a key is due now, because only the end of its key would release it.
-- Relies on deliveries_by_key and on the primary key of events. $1 handler.
update deliveries d
   set key = k.key,
       state = case when d.state = 'waiting' and k.key is null then 'retrying' else d.state end,
       due_at = case when d.state = 'waiting' and k.key is null then clock_timestamp() else d.due_at end
  from subscriptions s
 cross join events e
 cross join lateral (select ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path) as key) k
 where s.handler = $1 and d.subscription = s.id and d.state in ('retrying', 'waiting', 'dead') and e.seq = d.seq
