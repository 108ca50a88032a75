-- filter_deliveries: the condition that statements take in the place that is marked for it; no statement of its own. Of s (subscriptions) and d
-- (deliveries); a null parameter matches everything and costs nothing, because each run is planned for the parts that are set.
-- State and key are put in by name. Relies on deliveries_dead; with a key on deliveries_by_key, with ids on deliveries_pkey.
-- $1 handler, $2 LIKE pattern of the type, $3 key, $4 reason, $5 event ids, $6 since, $7 until, $8 LIKE pattern of the detail,
-- $9 fingerprint.
       d.state = {state}
   and ($1::text is null or s.handler = $1)
   and ($2::text is null or exists (select 1 from events e where e.seq = d.seq and e.type like $2))
   and ($3::text is null or {key} = bounded_key($3))
   and ($4::text is null or d.reason = $4 or starts_with(d.detail, $4 || ':'))
   and ($5::uuid[] is null or d.seq = any (array(select e.seq from events e where e.id = any ($5))))
   and ($6::timestamptz is null or d.handled_at >= $6)
   and ($7::timestamptz is null or d.handled_at < $7)
   and ($8::text is null or d.detail ilike $8)
   and ($9::bigint is null or d.fingerprint = $9)
