-- project_events: call the function of a projection for each event, in order of seq, without a recorded payload coming back to the server.
-- Sorted in a subquery around the join: of a join that the planner may turn round, the order of one side says nothing.
-- {function} and {schema} are quoted names. $1 seqs, $2 keys, $3 payloads and $4 headers of events whose contract makes something else of
-- them, null for all others, $5 whether the events are replayed.
select {function}(o.id, o.type, o.key, o.payload::jsonb, o.headers, o.occurred_at, $5)
  from (select e.id, e.type, a.key, coalesce(a.payload::json, e.payload) as payload, coalesce(a.headers::jsonb, e.headers) as headers,
               e.occurred_at
          from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as a (seq, key, payload, headers)
          join {schema}.events e on e.seq = a.seq
         order by a.seq) o
