-- find_numbered_again: events with a number that was used before: at most the highest that a position knows of, and written by a transaction
-- that no position had seen. Behind lock_events, before the positions or the sequence move. Relies on the primary key. No parameters.
select e.seq
  from events e
 where e.seq <= (select max(greatest(s.high_seq, s.window_high_seq)) from subscriptions s)
   and e.tx >= (select pg_snapshot_xmax(s.snapshot) from subscriptions s order by pg_snapshot_xmax(s.snapshot) desc limit 1)
 order by e.seq
