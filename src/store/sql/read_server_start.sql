-- read_server_start: when the server began to run; another answer than before means that it was restarted in between.
-- Caller: read_server_start.
select pg_postmaster_start_time()::text
