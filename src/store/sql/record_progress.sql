-- record_progress: how the subscriptions of one relay get on. One statement for all of them; locks their rows, which nothing else writes.
-- Times are counted back from now. $1 instance, $2 subscriptions, $3 names, microseconds since: $4 read, $5 flush, $6 the first failure,
-- $7 the last failure; $8 failures, $9 operations, $10 SQLSTATEs, $11 errors, $12 events, $13 microseconds until the wait ends, $14 why it waits,
-- $15 microseconds since the last answer that was no delivery, $16 its event, $17 reason, $18 status, $19 detail, $20 dead letters of those at rest.
insert into progress as p (subscription, name, instance, seen_at, read_at, flushed_at, failing_since, failed_at, failures, operation,
                           sqlstate, error, event, waiting_until, waiting_reason,
                           answered_at, answered_event, answered_reason, answered_status, answered_detail, at_rest, dead)
select r.subscription, r.name, $1, clock_timestamp(),
       clock_timestamp() - r.read * interval '1 microsecond', clock_timestamp() - r.flushed * interval '1 microsecond',
       clock_timestamp() - r.failing * interval '1 microsecond', clock_timestamp() - r.failed * interval '1 microsecond',
       r.failures, r.operation, r.sqlstate, r.error, r.event,
       clock_timestamp() + r.waiting * interval '1 microsecond', r.waiting_reason,
       clock_timestamp() - r.answered * interval '1 microsecond', r.answered_event, r.answered_reason, r.answered_status, r.answered_detail,
       r.dead is not null, r.dead
  from unnest($2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[],
              $11::text[], $12::uuid[], $13::bigint[], $14::text[], $15::bigint[], $16::uuid[], $17::text[], $18::integer[], $19::text[],
              $20::bigint[])
       as r (subscription, name, read, flushed, failing, failed, failures, operation, sqlstate, error, event, waiting, waiting_reason,
             answered, answered_event, answered_reason, answered_status, answered_detail, dead)
    on conflict (subscription) do update
   set name = excluded.name, instance = excluded.instance, seen_at = excluded.seen_at,
       -- A loop that has just begun has not read yet; when its predecessor did is still true.
       read_at = coalesce(excluded.read_at, p.read_at), flushed_at = coalesce(excluded.flushed_at, p.flushed_at),
       failing_since = excluded.failing_since, failed_at = excluded.failed_at, failures = excluded.failures,
       operation = excluded.operation, sqlstate = excluded.sqlstate, error = excluded.error, event = excluded.event,
       waiting_until = excluded.waiting_until, waiting_reason = excluded.waiting_reason,
       at_rest = excluded.at_rest, dead = excluded.dead,
       -- The answer to an earlier owner stays until there is a new one.
       answered_at = coalesce(excluded.answered_at, p.answered_at),
       answered_event = case when excluded.answered_at is null then p.answered_event else excluded.answered_event end,
       answered_reason = case when excluded.answered_at is null then p.answered_reason else excluded.answered_reason end,
       answered_status = case when excluded.answered_at is null then p.answered_status else excluded.answered_status end,
       answered_detail = case when excluded.answered_at is null then p.answered_detail else excluded.answered_detail end
