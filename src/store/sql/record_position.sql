-- record_position: advance a subscription that we still own; the fence of every write of the relay. Locks one row.
-- Zero rows: the lease is lost. $1 subscription, $2 epoch, $3 snapshot, $4 low seq, $5 high seq, $6 window's snapshot,
-- $7 window's seq, $8 window's high seq, $9 settled without a row, $10 whether that is news: it can be large, and to write it again
-- would cost as much as the first time.
update subscriptions
   set snapshot = $3::pg_snapshot, low_seq = $4, high_seq = $5,
       window_snapshot = $6::pg_snapshot, window_seq = $7, window_high_seq = $8,
       done = case when $10 then $9::int8multirange else done end,
       moved_at = clock_timestamp()
 where id = $1 and epoch = $2
