-- insert_correction: record an event again under a new id with another payload, for one handler only. Type, aggregate and headers are those of
-- the original; its id is the causation, and the correlation where there was none. Locks nothing. Relies on the unique index on id.
-- $1 the new id, $2 the event that it corrects, $3 handler, $4 payload. Called by store::corrections.
insert into events (id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers)
select $1, e.type, e.aggregate_type, e.aggregate_id, e.aggregate_version, $4::text::json,
       jsonb_build_object('correlation', e.id) || e.headers
       || jsonb_build_object('causation', e.id, 'outboxd-corrects', e.id, 'outboxd-only-for', $3::text)
  from events e
 where e.id = $2
