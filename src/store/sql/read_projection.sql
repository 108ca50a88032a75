-- read_projection: the state of a version before a read: whether it is live, at which rate it may replay, and otherwise
-- where the live version is. Reads two rows by their keys. $1 subscription.
select p.is_live, p.rate,
       s.snapshot::text as snapshot, s.low_seq, s.high_seq, s.window_snapshot::text as window_snapshot, s.window_seq, s.window_high_seq
  from projections p
  left join projections l on l.name = p.name and l.is_live and not p.is_live
  left join subscriptions s on s.id = l.subscription
 where p.subscription = $1
