-- call_function: call the application's function for each event, in order of seq, without a recorded payload coming back to the server.
-- Sorted in a subquery around the join: of a join that the planner may turn round, the order of one side says nothing.
-- {function} and {schema} are quoted names, {payload} is a type. $1 seqs, $2 keys, $3 payloads and
-- $4 headers of events whose contract makes something else of them, null for all others.
select {function}(o.id, o.type, o.key, o.payload::{payload}, o.headers)
  from (select e.id, e.type, a.key, coalesce(a.payload::json, e.payload) as payload, coalesce(a.headers::jsonb, e.headers) as headers
          from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as a (seq, key, payload, headers)
          join {schema}.events e on e.seq = a.seq
         order by a.seq) o
