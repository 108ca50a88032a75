-- describe_server: the properties of a server that `check --connect` verifies. Reads catalogues only, takes no lock.
-- $1 schema of the outbox. Called by store::describe_server.
select
    current_setting('server_version_num')::int / 10000 as major,
    current_setting('server_version') as version,
    pg_is_in_recovery() as is_in_recovery,
    current_database()::text as database,
    current_setting('server_encoding') as encoding,
    to_regclass(format('%I.events', $1)) is not null as has_outbox
