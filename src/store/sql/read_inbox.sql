-- read_inbox: whether any receiver keeps its marks here, and the age in seconds of the oldest event that may still be delivered again: one
-- in the log. Relies on the primary keys. No locks.
select exists (select from inbox) as is_used,
       coalesce(extract(epoch from clock_timestamp() - (select occurred_at from events order by seq limit 1)), 0)::float8 as oldest_seconds
