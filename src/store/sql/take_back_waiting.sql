-- take_back_waiting: when an owner begins: forget the waiting deliveries beyond the position, so that the log brings these events again.
-- A busy key whose lane was full has waiting rows while older events of it were in memory only; those come from the log now, and
-- waiting deliveries must come behind them. Nothing is lost: the position never moves over an event without an outcome. Of a replay the rows
-- stay, because the log does not bring them as such. Relies on deliveries_by_key and the primary key of events; after
-- take_up_subscription in its transaction, which has locked the subscription. $1 subscription.
delete from deliveries d
 using subscriptions s, events e
 where s.id = $1 and d.subscription = $1 and d.state = 'waiting' and d.replay is null
   and e.seq = d.seq
   and not pg_visible_in_snapshot(e.tx, s.snapshot)
   and not (s.window_snapshot is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot))
