-- start_subscription_from: move a subscription to a sequence number: committed events below it are skipped, events from it on without an outcome stay pending, and
-- events with an outcome are delivered again only on request. Runs behind lock_handler, and take_back_deliveries if so. A new epoch
-- fences the attempts and outcomes of the owner.
-- $1 subscription, $2 first number, $3 snapshot as of now, taken behind the lock, $4 the sequence before it, $5 after it, $6 again.
-- Everything below the number and visible now counts as read: the place in a window that ends now.
update subscriptions s
   set snapshot = case when $2 > $5 then $3::pg_snapshot when $6 then '3:3:'::pg_snapshot else s.snapshot end,
       low_seq = case when $2 > $5 then $4 when $6 then 0 else s.low_seq end,
       high_seq = case when $2 > $5 then $5 when $6 then $4 else s.high_seq end,
       window_snapshot = case when $2 <= $5 then $3::pg_snapshot end,
       window_seq = case when $2 <= $5 then $2 - 1 end,
       window_high_seq = case when $2 <= $5 then $5 end,
       done = case when $2 > $5 then null
                   when $6 then coalesce(s.done, '{}') - int8multirange(int8range($2, null))
                   -- What was read beyond the number in the window that was open is behind us, row or no row.
                   else coalesce(s.done, '{}')
                        + coalesce((select range_agg(int8range(e.seq, e.seq + 1)) from events e
                                     where e.seq >= $2 and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot)), '{}')
              end,
       moved_at = clock_timestamp(), epoch = s.epoch + 1, moves = s.moves + 1
 where s.id = $1
