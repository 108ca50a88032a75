-- record_outcomes: every outcome other than a first-try success, inside a flush that has passed the fence.
-- Inserts or updates by primary key; a row that an operator has finished meanwhile stays as it is.
-- $1 subscription, $2 seqs, $3 states, $4 attempts, $5 microseconds until due (null: never), $6 keys, $7 status, $8 reasons,
-- $9 details, $10 microseconds since the first attempt began (null: there was none), of dead letters $11 errors, $12 fingerprints,
-- $13 whether it holds its key, $14 the destination that it waits for.
insert into deliveries (subscription, seq, state, attempts, due_at, handled_at, key, status, reason, detail, first_attempt_at,
                        error, fingerprint, holds_key, destination)
-- An event that is gone cannot be replayed, and no list would show a row that blocks its key.
select $1, o.seq,
       case when o.state = 'dead' and not exists (select from events e where e.seq = o.seq) then 'discarded' else o.state end::delivery_state,
       o.attempts,
       clock_timestamp() + o.due_in * interval '1 microsecond',
       case when o.state in ('delivered', 'dead') then clock_timestamp() end,
       o.key, o.status, o.reason, o.detail,
       clock_timestamp() - o.age * interval '1 microsecond',
       o.error, o.fingerprint, o.holds_key, o.destination
  from unnest($2::bigint[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::integer[], $8::text[], $9::text[], $10::bigint[],
              $11::text[], $12::bigint[], $13::boolean[], $14::text[])
       as o (seq, state, attempts, due_in, key, status, reason, detail, age, error, fingerprint, holds_key, destination)
    on conflict (subscription, seq) do update
   set state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at, handled_at = excluded.handled_at,
       status = excluded.status, reason = excluded.reason, detail = excluded.detail,
       error = excluded.error, fingerprint = excluded.fingerprint, holds_key = excluded.holds_key,
       destination = excluded.destination,
       first_attempt_at = coalesce(deliveries.first_attempt_at, excluded.first_attempt_at)
 where deliveries.state in ('retrying', 'waiting')
