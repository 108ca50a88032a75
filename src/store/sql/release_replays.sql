-- release_replays: of each running replay the next deliveries of one subscription leave: `retrying` and due, or `waiting` behind one of
-- their key that leaves with them. Fenced by the epoch; without the lease nothing happens. Never waits for an operator's command: rows that a command
-- has locked are left for the next time, and so are the rows behind them in their key.
-- A delivery stays held while an older one of its key is unfinished, so a key that fails keeps back its own part of the set only.
-- The rate is for the whole replay: each owner pays from the token bucket in its row, by the clock of the database.
-- Relies on replay_items_held, the primary keys, deliveries_by_key; `room` on deliveries_due (the time as in read_due).
-- $1 subscription, $2 epoch, $3 most at once, $4 items to look at, $5 key source, $6 key path.
-- Returns whether anything is held here, whether the rate lets something leave, how many have left, how many were dropped.
with mine as (
    select s.id, clock_timestamp() as now,
           -- What is due and not begun is not heaped up: what comes behind it can still be cancelled.
           $3 - (select count(*) from (select 1 from deliveries
                                        where subscription = $1 and state = 'retrying' and due_at <= (select clock_timestamp())
                                        order by due_at limit $3) due) as room
      from subscriptions s where s.id = $1 and s.epoch = $2
       for update),
running as (
    select r.id, r.rate, mine.now,
           -- The bucket holds what may leave in a quarter of a second, at least one.
           greatest(r.next_at, mine.now - greatest(0.25, 1 / r.rate) * interval '1 second') as paid_until,
           mine.room
      from replays r, mine
     where r.state = 'running' and r.delivered is null
       -- The first of an order on purpose: `exists` may be planned as a scan over all items.
       and (select i.seq from replay_items i where i.subscription = $1 and i.replay = r.id and i.state = 'held'
             order by i.round, i.seq limit 1) is not null
     order by r.at, r.id
       for update of r skip locked),
bucket as (
    select id, rate, now, paid_until,
           case when rate is null then room
                else least(room, floor(extract(epoch from now - paid_until) * rate + 0.000001)::bigint) end as tokens
      from running),
affordable as (
    select b.id as replay, i.seq, i.is_there, i.key
      from bucket b
     cross join lateral (
           select n.seq, n.is_there, n.key
             from (select h.seq, h.round, coalesce(d.state = h.was, false) and e.seq is not null as is_there,
                          case when h.was = 'dead' then d.key
                               else coalesce(d.key, bounded_key(ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, $5, $6)))
                          end as key
                     from (select seq, round, was from replay_items
                            where subscription = $1 and replay = b.id and state = 'held'
                            order by round, seq limit $4) h
                     -- One probe for each item on purpose: a join of two sides whose size is not known may read the whole log.
                     left join lateral (select state, key from deliveries where subscription = $1 and seq = h.seq limit 1) d on true
                     left join lateral (select seq, aggregate_type, aggregate_id, headers, payload from events
                                         where seq = h.seq limit 1) e on true) n
            where n.key is null or not n.is_there
               or (select o.seq from deliveries o
                    where o.subscription = $1 and o.key = n.key and o.seq < n.seq and o.state in ('retrying', 'waiting')
                    limit 1) is null
            order by n.round, n.seq
            limit greatest(b.tokens, 0)) i),
locked as (
    select d.seq
      from deliveries d
     where d.subscription = $1 and d.seq = any (array(select seq from affordable where is_there)) and d.state in ('dead', 'delivered')
       for update skip locked),
free as (
    select a.*
      from affordable a
     where a.is_there and a.seq in (select seq from locked)
       and not exists (select 1 from affordable b
                        where b.key = a.key and b.seq < a.seq and b.is_there and b.seq not in (select seq from locked))),
placed as (
    select replay, seq, key, key is null or row_number() over (partition by key order by seq) = 1 as is_due from free),
released as (
    update deliveries d
       set state = case when p.is_due then 'retrying' else 'waiting' end::delivery_state,
           due_at = case when p.is_due then clock_timestamp() end,
           attempts = 0, first_attempt_at = null, handled_at = null, key = p.key, replay = p.replay, holds_key = null
      from placed p
     where d.subscription = $1 and d.seq = p.seq),
released_items as (
    update replay_items i
       set state = 'released', released_at = clock_timestamp()
      from placed p
     where i.replay = p.replay and i.subscription = $1 and i.seq = p.seq),
dropped as (
    update replay_items i
       set state = 'dropped', ended_at = clock_timestamp()
      from affordable a
     where not a.is_there and i.replay = a.replay and i.subscription = $1 and i.seq = a.seq and i.state = 'held'
    returning 1),
paid as (
    update replays r
       set next_at = b.paid_until + p.released * interval '1 second' / b.rate
      from bucket b, (select replay, count(*) as released from placed group by replay) p
     where b.id = p.replay and r.id = b.id and b.rate is not null)
select exists (select 1 from running) as has_held, exists (select 1 from bucket where tokens > 0) as has_tokens,
       (select count(*) from placed) as released, (select count(*) from dropped) as dropped
