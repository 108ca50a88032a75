-- lock_events: block writers of events until the transaction ends; earlier writers have committed: every number up to the sequence
-- is there or never will be. Readers go on. Waits for writers, at most lock_timeout.
lock table events in share row exclusive mode
