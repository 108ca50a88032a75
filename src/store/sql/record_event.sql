-- record_event: record_events for the one event that most commands record: no arrays to take apart, the same columns, the same answer.
-- Parameters as there, each a single value. Caller: uow::record.
with recorded as (
    insert into outbox.events (id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers, occurred_at)
    values ($1, $2, $3, $4, $5, $6::text::json, $7::text::jsonb,
            coalesce(timestamptz 'epoch' + $8::bigint * interval '1 microsecond', clock_timestamp())))
select pg_current_xact_id()::text
