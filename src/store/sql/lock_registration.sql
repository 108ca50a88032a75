-- lock_registration: one relay at a time decides which handlers are new. Held until the transaction ends.
select pg_advisory_xact_lock(hashtextextended('outboxd register ' || current_schema(), 0))
