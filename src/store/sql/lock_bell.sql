-- lock_bell: hold the bell exclusively; false while a writer that skipped it is in flight, or another relay holds it.
select pg_try_advisory_lock(bell_key())
