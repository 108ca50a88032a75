-- lock_projection: one person at a time changes the versions of a projection. Held until the transaction ends. $1 name.
select pg_advisory_xact_lock(hashtextextended('outboxd projection ' || current_schema() || ' ' || $1, 0))
