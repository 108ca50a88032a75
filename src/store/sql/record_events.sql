-- record_events: insert events in the order of the arrays, so that `seq` follows it. No locks beyond the new rows. Reads nothing of the
-- table, because a producer may have no right but to insert. $1 ids, $2 types, $3 aggregate types, $4 aggregate ids, $5 aggregate
-- versions, $6 payloads, $7 headers, $8 when they occurred in microseconds since 1970 (null: now). Returns the number of the transaction. Caller: uow::record.
with recorded as (
    insert into outbox.events (id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers, occurred_at)
    select id, type, aggregate_type, aggregate_id, aggregate_version, payload::json, headers::jsonb,
           coalesce(timestamptz 'epoch' + occurred_micros * interval '1 microsecond', clock_timestamp())
      from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[])
           with ordinality as e (id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers, occurred_micros, place)
     order by place)
select pg_current_xact_id()::text
