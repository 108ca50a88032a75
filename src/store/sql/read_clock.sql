-- read_clock: what time it is for everything that is stored.
select clock_timestamp()
