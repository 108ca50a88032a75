-- rekey_deliveries: the ordering key of what is not finished, after a handler got another one. Runs behind place_partitions.
-- What waits behind a key and has none any more waits for nothing: it is due now, because only a key would bring it.
-- Relies on deliveries_by_key and on the primary key of events. $1 handler.
update deliveries d
   set key = k.key,
       state = case when d.state = 'waiting' and k.key is null then 'retrying' else d.state end,
       due_at = case when d.state = 'waiting' and k.key is null then clock_timestamp() else d.due_at end
  from subscriptions s
 cross join events e
 cross join lateral (select ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path) as key) k
 where s.handler = $1 and d.subscription = s.id and d.state in ('retrying', 'waiting', 'dead') and e.seq = d.seq
