-- read_moment: where the log ends now: the snapshot, and the sequence after it was taken. Locks nothing. No parameters.
select pg_current_snapshot()::text as snapshot, last_seq() as high_seq
