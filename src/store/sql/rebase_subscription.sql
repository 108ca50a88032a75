-- rebase_subscription: a position in the numbers of this server: nothing is behind it, and a window is open over everything that is
-- there, read up to $4, with the events in it that are finished without a row in `done`; or, without $4, everything is behind it.
-- A new epoch, and no owner. $1 subscription, $2 snapshot of now, $3 sequence, $4 window's seq (null: nothing is pending), $5 done.
update subscriptions
   set snapshot = case when $4::bigint is null then $2::pg_snapshot else '3:3:' end,
       low_seq = coalesce($4, $3), high_seq = coalesce($4, $3),
       window_snapshot = case when $4::bigint is not null then $2::pg_snapshot end,
       window_seq = $4, window_high_seq = case when $4::bigint is not null then $3::bigint end,
       done = case when $4::bigint is not null then $5::int8multirange end,
       moved_at = clock_timestamp(), owner = null, lease_until = clock_timestamp(), epoch = epoch + 1
 where id = $1
