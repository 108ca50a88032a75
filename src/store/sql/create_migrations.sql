-- create_migrations: the table of applied migrations. Locks nothing that exists.
create table if not exists migrations (
    version    integer     primary key,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default clock_timestamp()
);
