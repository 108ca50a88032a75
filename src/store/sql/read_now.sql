-- read_now: what time it is for everything that is stored. Called by store::read_now.
select clock_timestamp()
