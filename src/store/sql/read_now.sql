-- read_now: the time for everything that is stored. Called by store::read_now.
select clock_timestamp()
