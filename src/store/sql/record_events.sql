-- record_events: insert events in the order of the arrays, so that `seq` follows it. No locks beyond the new rows.
-- $1 ids, $2 types, $3 aggregate types, $4 aggregate ids, $5 aggregate versions, $6 payloads, $7 headers. Caller: uow::record.
insert into outbox.events (id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers)
select id, type, aggregate_type, aggregate_id, aggregate_version, payload::json, headers::jsonb
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
       with ordinality as e (id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers, place)
 order by place
