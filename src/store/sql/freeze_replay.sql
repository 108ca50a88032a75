-- freeze_replay: the set of a replay, as it is at this moment. Changes no delivery. Runs behind lock_replays; the unique index would
-- refuse what is in two replays all the same. A round has the next 16 of each key; with events that were delivered, whose
-- keys only the relay knows, all are of one round and so in order of seq.
-- $1 to $9 of the filter, $10 replay.
insert into replay_items (replay, subscription, seq, round, was)
select $10::uuid, d.subscription, d.seq,
       case when d.key is null or d.state = 'delivered' then 0
            else (row_number() over (partition by d.subscription, d.key order by d.seq) - 1) / 16 end,
       d.state
  from subscriptions s
  join deliveries d on d.subscription = s.id
 where {filter}
 order by d.subscription, d.seq
    on conflict do nothing
