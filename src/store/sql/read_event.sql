-- read_event: one event by its public id, payload byte for byte. Relies on the unique index on id. Locks nothing. $1 id.
select seq, id, type, aggregate_type, aggregate_id, aggregate_version, occurred_at, headers::text as headers, payload::text as payload
  from events
 where id = $1
