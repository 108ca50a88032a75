-- find_next_due: microseconds until the next retry is due, negative if it is overdue; null if none is. Relies on deliveries_due.
-- $1 subscription, $2 seqs that are in memory already. Ordered on purpose: the first that is not known ends the look.
select (select (extract(epoch from due_at - clock_timestamp()) * 1000000)::bigint
          from deliveries
         where subscription = $1 and state = 'retrying' and due_at is not null and seq <> all ($2::bigint[])
         order by due_at
         limit 1)
