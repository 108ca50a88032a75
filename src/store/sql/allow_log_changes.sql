-- allow_log_changes: allow changes of the log by outboxd itself until the end of the transaction. No parameters.
select set_config('outboxd.changes_log', 'on', true)
