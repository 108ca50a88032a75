-- call_function: call the application's function for each event, in order of seq, without the payload leaving the server.
-- Sorted in a subquery around the join: of a join that the planner may turn round, the order of one side says nothing.
-- {function} and {schema} are quoted names, {payload} is a type. $1 seqs, $2 keys.
select {function}(o.id, o.type, o.key, o.payload::{payload}, o.headers)
  from (select e.id, e.type, a.key, e.payload, e.headers
          from unnest($1::bigint[], $2::text[]) as a (seq, key)
          join {schema}.events e on e.seq = a.seq
         order by a.seq) o
