-- lock_migrations: one migrator at a time, until the end of the transaction.
select pg_advisory_xact_lock(hashtextextended('outboxd migrate ' || current_setting('search_path'), 0))
