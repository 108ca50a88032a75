-- convert_payload: whether the payload of an event can become a jsonb; an error says why not. Relies on the primary key of events.
-- {schema} is a quoted name. $1 seq. Called by store::functions after a call that failed with an error of the data.
select jsonb_typeof(payload::jsonb) from {schema}.events where seq = $1
