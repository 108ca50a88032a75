-- read_session: the session that answers, and the search path that it has. Sent by the simple protocol: behind a pooler a statement that was
-- prepared may be looked for in another session. Locks nothing. No parameters. Caller: pooler.
select pg_backend_pid() as pid, current_setting('search_path') as search_path;
