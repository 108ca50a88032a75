-- record_attempts: append to the history, inside a flush. $1 subscription, $2 instance, $3 seqs, $4 attempts, $5 durations in ms,
-- $6 status, $7 ambiguous, $8 outcomes, $9 reasons, $10 details.
insert into attempts (subscription, instance, seq, attempt, duration_ms, status, ambiguous, outcome, reason, detail)
select $1, $2, a.*
  from unnest($3::bigint[], $4::integer[], $5::integer[], $6::integer[], $7::boolean[], $8::text[], $9::text[], $10::text[]) as a
