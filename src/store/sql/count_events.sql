-- count_events: how many of these events are in the log. Relies on the primary key; locks nothing. $1 seqs. Caller: store::functions, where
-- a function was called for fewer than it was to be.
select count(*) from events where seq = any ($1)
