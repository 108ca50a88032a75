-- rekey_deliveries: the ordering key of what is not finished, after a handler got another one. Runs behind place_partitions.
-- Relies on deliveries_by_key and on the primary key of events. $1 handler.
update deliveries d
   set key = ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path)
  from subscriptions s, events e
 where s.handler = $1 and d.subscription = s.id and d.state in ('retrying', 'waiting', 'dead') and e.seq = d.seq
