-- find_subject_events: events that hold values of a person, and events of the aggregate with that name. Reads the whole log. No locks. $1 and $2: how an envelope
-- names the person, without and with a space; $3 the name. Caller: forgetting.
select e.seq, e.id, coalesce(e.aggregate_type || '/' || e.aggregate_id = $3, false) as is_own,
       strpos(e.payload::text, '$shredded') > 0 and (strpos(e.payload::text, $1) > 0 or strpos(e.payload::text, $2) > 0) as has_values
  from events e
 where (strpos(e.payload::text, '$shredded') > 0 and (strpos(e.payload::text, $1) > 0 or strpos(e.payload::text, $2) > 0))
    or e.aggregate_type || '/' || e.aggregate_id = $3
 order by e.seq
