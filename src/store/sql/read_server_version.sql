-- read_server_version: the major version, whether this is a standby, and which database in which encoding.
select current_setting('server_version_num')::integer / 10000, pg_is_in_recovery(), current_database()::text, current_setting('server_encoding')
