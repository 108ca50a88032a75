-- read_flush_lsn: how far the server has flushed its log. Fails on a standby, as it should.
select (pg_current_wal_flush_lsn() - '0/0')::bigint
