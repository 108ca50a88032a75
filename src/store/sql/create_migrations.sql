-- create_migrations: the table that tells which migrations have been applied. Locks nothing that exists.
create table if not exists migrations (
    version    integer     primary key,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default clock_timestamp()
);
