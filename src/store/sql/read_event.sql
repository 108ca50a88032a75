-- read_event: one event by its public id, payload byte for byte. Relies on the unique index on id. Locks nothing. $1 id, $2 the unreadable parts to leave out,
-- because it cannot be: 'aggregate', 'headers', 'payload'.
select seq, id, type, aggregate_type, case when 'aggregate' <> all ($2::text[]) then aggregate_id end as aggregate_id, aggregate_version, occurred_at,
       case when 'headers' <> all ($2) then headers::text else 'null' end as headers,
       case when 'payload' <> all ($2) then payload::text else 'null' end as payload
  from events
 where id = $1
