-- find_next_due: microseconds until the next retry is due, negative if it is overdue; null if none is. Relies on deliveries_due.
-- $1 subscription.
select (extract(epoch from min(due_at) - clock_timestamp()) * 1000000)::bigint
  from deliveries where subscription = $1 and state = 'retrying'
