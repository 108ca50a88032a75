-- read_last_failure: the newest failure of one handler that an index can find: of retrying deliveries, of the newest dead letters, and of
-- the newest events that ever failed; and the last answer that was no delivery, which need not have spent anything. Relies on deliveries_due, deliveries_dead, attempts_by_delivery. Locks nothing. $1 handler.
with mine as (select id from subscriptions where handler = $1),
failed as (
    select d.subscription, d.seq
      from mine
     cross join lateral (
           (select subscription, seq from deliveries where subscription = mine.id and state = 'retrying' order by due_at desc limit 100)
           union all
           (select subscription, seq from deliveries where subscription = mine.id and state = 'dead'
             order by handled_at desc nulls last limit 10)
           union all
           (select subscription, seq from attempts where subscription = mine.id order by seq desc limit 10)) d)
select id, at, reason, status, detail from (
select e.id, f.at, f.reason, f.status, f.detail
  from failed
 cross join lateral (
       (select at, reason, status, detail from attempts a
         where a.subscription = failed.subscription and a.seq = failed.seq and a.outcome not in ('delivered', 'duplicate')
         order by at desc limit 1)
       union all
       -- What a dead letter died of need not have been an attempt: too old, or the relay crashed with it.
       (select handled_at, reason, status, detail from deliveries d
         where d.subscription = failed.subscription and d.seq = failed.seq and d.state = 'dead' and d.reason is not null)) f
  join events e on e.seq = failed.seq
 union all
select p.answered_event, p.answered_at, p.answered_reason, p.answered_status, p.answered_detail
  from mine join progress p on p.subscription = mine.id
 where p.answered_at is not null) f
 order by at desc nulls last
 limit 1
