-- lock_retention: one instance removes at a time; the lock ends with the transaction of one chunk, and so does the leave to remove events,
-- without which each of them would be taken for one that was deleted by hand.
select pg_try_advisory_xact_lock(hashtextextended('outboxd retention ' || current_schema(), 0)) as is_alone,
       set_config('outboxd.changes_log', 'on', true)
