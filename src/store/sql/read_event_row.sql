-- read_event_row: one event with the text of its payload as it came in. Relies on the unique index of the id. $1 id.
select id, seq, type, aggregate_type, aggregate_id, aggregate_version, payload::text as payload, headers::text as headers, occurred_at
  from events where id = $1
