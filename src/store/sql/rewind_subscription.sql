-- rewind_subscription: deliver again from a number on, skip nothing. Runs behind lock_handler and take_back_deliveries. A new epoch
-- fences the work of the owner. $1 subscription, $2 first number.
-- The position becomes an open window from before everything up to the end of the last read. It ends there, and not now, because rows
-- that are not visible there have no outcome whatever their number; they come after it, as they would have.
-- `high_seq`: the nearest bound known to be older than the end of that window, from which the next one is looked for.
update subscriptions s
   set snapshot = '3:3:', low_seq = 0,
       high_seq = case when s.window_snapshot is null then s.low_seq else s.high_seq end,
       window_snapshot = coalesce(s.window_snapshot, s.snapshot),
       window_seq = greatest(least($2 - 1, coalesce(s.window_seq, $2 - 1), coalesce(s.window_high_seq, s.high_seq)), 0),
       window_high_seq = coalesce(s.window_high_seq, s.high_seq),
       -- Beyond the place in an open window, what was read before the window keeps its outcome up to the number.
       done = (coalesce(s.done, '{}')
               + coalesce((select range_agg(int8range(e.seq, e.seq + 1)) from events e
                            where e.seq > s.window_seq and e.seq < $2 and pg_visible_in_snapshot(e.tx, s.snapshot)), '{}'))
              - int8multirange(int8range($2, null)),
       moved_at = clock_timestamp(), epoch = s.epoch + 1, moves = s.moves + 1
 where s.id = $1
