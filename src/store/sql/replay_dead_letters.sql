-- replay_dead_letters: owe dead letters once more, in the order of each key. Locks the rows it takes, in one order.
-- Per subscription and key the oldest is due at once and the others wait behind it; all wait if an older one is unfinished.
-- Runs behind lock_replays, so that what another replay has made unfinished is seen here. The history of attempts stays.
-- Relies on deliveries_dead or deliveries_unfinished, and on deliveries_by_key.
-- $1 handler, $2 LIKE pattern of the type, $3 key, $4 reason, $5 event ids, $6 replay. Returns how many, and how many due at once.
with chosen as materialized (
    select d.subscription, d.seq, d.key
      from deliveries d
      join subscriptions s on s.id = d.subscription
      join events e on e.seq = d.seq
     where d.state = 'dead'
       and ($1::text is null or s.handler = $1)
       and ($2::text is null or e.type like $2)
       and ($3::text is null or d.key = $3)
       and ($4::text is null or d.reason = $4 or starts_with(d.detail, $4 || ':'))
       and ($5::uuid[] is null or e.id = any ($5))
     order by d.subscription, d.seq
       for update of d),
placed as (
    select c.subscription, c.seq,
           c.key is null
           or (row_number() over (partition by c.subscription, c.key order by c.seq) = 1
               and not exists (select 1 from deliveries o
                                where o.subscription = c.subscription and o.key = c.key and o.seq < c.seq
                                  and o.state in ('retrying', 'waiting'))) as is_due
      from chosen c),
replayed as (
    update deliveries d
       set state = case when p.is_due then 'retrying' else 'waiting' end::delivery_state,
           due_at = case when p.is_due then clock_timestamp() end,
           attempts = 0, first_attempt_at = null, handled_at = null, replay = $6
      from placed p
     where d.subscription = p.subscription and d.seq = p.seq and d.state = 'dead'
    returning p.is_due)
select count(*) as replayed, count(*) filter (where is_due) as due from replayed
