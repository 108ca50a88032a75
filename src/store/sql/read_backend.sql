-- read_backend: which server process answers; through a pooler in transaction mode not always the same.
select pg_backend_pid()
