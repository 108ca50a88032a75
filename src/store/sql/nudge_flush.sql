-- nudge_flush: a tiny transaction whose commit flushes the log, for when no other session commits. Writes some forty bytes of WAL.
select pg_logical_emit_message(true, 'outboxd', '')::text
