-- find_unread_due: the first delivery that read_due would return, with only the id of its event: the one on which read_due fails.
-- Relies on deliveries_due and deliveries_by_key; the time as in read_due. Locks nothing. $1 subscription, $2 seqs that are in memory already.
select d.seq, e.id, d.key, d.attempts, d.replay is not null as is_replay
  from (select seq, key, attempts, replay
          from deliveries
         where subscription = $1 and state = 'retrying' and due_at <= (select clock_timestamp()) and seq <> all ($2::bigint[])
           and (key is null
                or (select r.seq from deliveries r
                     where r.subscription = $1 and r.key = deliveries.key and r.seq < deliveries.seq and r.state = 'retrying'
                     limit 1) is null)
         order by due_at
         limit 1) d
  join events e on e.seq = d.seq
