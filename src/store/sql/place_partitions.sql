-- place_partitions: one position for all partitions of a handler. Runs behind lock_handler and plan_repartition.
-- With nothing pending it is the snapshot. Otherwise it is a window that is open from the first pending number on and ends at the
-- snapshot, with the events that were handled meanwhile as `done`. The lease ends and a new epoch fences the outcomes in the memory of a relay.
-- $1 handler, $2 partitions, $3 key source, $4 key path, $5 snapshot, $6 the sequence before it, $7 after it, $8 first pending number
-- (null: nothing is pending), $9 settled beyond it.
update subscriptions
   set partitions = $2, key_source = $3, key_path = $4,
       snapshot = case when $8::bigint is null then $5::pg_snapshot else '3:3:'::pg_snapshot end,
       low_seq = case when $8 is null then $6 else 0 end,
       high_seq = case when $8 is null then $7 else $6 end,
       window_snapshot = case when $8 is not null then $5::pg_snapshot end,
       window_seq = case when $8 is not null then $8 - 1 end,
       window_high_seq = case when $8 is not null then $7 end,
       done = case when $8 is not null then $9::int8multirange end,
       moved_at = clock_timestamp(), owner = null, lease_until = null, epoch = epoch + 1, moves = moves + 1
 where handler = $1
