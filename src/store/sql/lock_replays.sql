-- lock_replays: one session at a time freezes or resumes a replay, until the end of the transaction: deliveries that the session before has taken
-- is seen by the statement that follows. Relays take no part in it and are not held up. A statement of its own, for its snapshot.
select pg_advisory_xact_lock(hashtextextended('outboxd replays ' || current_schema(), 0))
