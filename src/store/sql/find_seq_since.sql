-- find_seq_since: the first event that was recorded at or after a moment; none: null. By primary key from the oldest on, because times
-- need not rise with the numbers: a producer may set its own. Reads up to the first hit. $1 microseconds since 1970 (null: $2 counts
-- back from now), $2 microseconds ago.
select seq from events
 where occurred_at >= coalesce(timestamptz 'epoch' + $1 * interval '1 microsecond', clock_timestamp() - $2 * interval '1 microsecond')
 order by seq
 limit 1
