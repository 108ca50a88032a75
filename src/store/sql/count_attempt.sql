-- count_attempt: before the dispatch of an event that may have killed the relay: one attempt, committed. Fenced by the epoch.
-- No row: the lease is lost. $1 subscription, $2 epoch, $3 seq, $4 key.
with mine as (select id from subscriptions where id = $1 and epoch = $2 for update)
insert into deliveries as d (subscription, seq, state, attempts, due_at, key, reason, detail, first_attempt_at)
select mine.id, $3, 'retrying', 1, clock_timestamp(), $4, 'crashed', 'the relay died while this event may have been in flight', clock_timestamp()
  from mine
    on conflict (subscription, seq) do update
   set attempts = d.attempts + 1, reason = excluded.reason, detail = excluded.detail,
       first_attempt_at = coalesce(d.first_attempt_at, excluded.first_attempt_at)
returning attempts
