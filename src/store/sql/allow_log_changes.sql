-- allow_log_changes: the defences of the log let pass what outboxd itself does to it, until the end of the transaction. No parameters.
select set_config('outboxd.changes_log', 'on', true)
