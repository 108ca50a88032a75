-- discard_dead_letters: discard dead letters on the decision of an operator. Locks the rows it takes, in one order; what a replay
-- still held of them is dropped from it. $1 to $9 of the filter, $10 the person's reason.
with chosen as materialized (
    select d.subscription, d.seq
      from deliveries d
      join subscriptions s on s.id = d.subscription
     where {filter}
     order by d.subscription, d.seq
       for update of d),
held as materialized (
    select i.replay, i.subscription, i.seq
      from chosen c
      join replay_items i on i.seq = c.seq and i.subscription = c.subscription and i.state = 'held'
     order by i.subscription, i.seq
       for update of i),
dropped as (
    update replay_items i
       set state = 'dropped', ended_at = clock_timestamp()
      from held h
     where i.replay = h.replay and i.subscription = h.subscription and i.seq = h.seq)
update deliveries d
   set state = 'discarded', handled_at = clock_timestamp(), due_at = null, reason = 'operator', detail = $10
  from chosen c
 where d.subscription = c.subscription and d.seq = c.seq and d.state = 'dead'
