-- lock_retention: one instance removes at a time; the lock ends with the transaction of one chunk.
select pg_try_advisory_xact_lock(hashtextextended('outboxd retention ' || current_schema(), 0))
