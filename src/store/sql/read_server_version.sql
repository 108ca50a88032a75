-- read_server_version: the major version, and whether this is a standby.
select current_setting('server_version_num')::integer / 10000, pg_is_in_recovery()
