-- find_unread_waiting: the same for read_waiting: the first delivery of a key that waits. Relies on deliveries_by_key. Locks nothing.
-- $1 subscription, $2 key.
select d.seq, e.id, d.key, d.attempts, d.replay is not null as is_replay
  from (select seq, key, attempts, replay
          from deliveries
         where subscription = $1 and key = $2 and state = 'waiting'
         order by seq
         limit 1) d
  join events e on e.seq = d.seq
