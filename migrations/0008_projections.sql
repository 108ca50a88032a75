-- 0008_projections: read tables that are built from the log, in versions beside one another. Empty, and never written, unless
-- projections are configured. Runs with search_path set to the outbox schema, in one transaction. Creates only; locks no table that exists.

-- One row for each version of a projection. Its position is that of its subscription, whose handler is `name@version`.
create table projections (
    name           text        not null,
    version        integer     not null check (version > 0),
    -- Null: the version was dropped. The row stays, so that its number is not used for another table.
    subscription   integer     unique,
    -- What the version writes, and the view that readers use; as configured, null where outboxd does not know them.
    target         text,
    view           text,
    -- The version that readers see, and whose function may have effects beyond its table. The others follow it and never pass it.
    is_live        boolean     not null default false,
    -- Events per second while it replays; null: as configured.
    rate           integer     check (rate > 0),
    began_at       timestamptz not null default clock_timestamp(),
    live_since     timestamptz,
    -- Events behind its position, and how many of them were skipped. Written in the transaction of the function.
    handled        bigint      not null default 0,
    skipped        bigint      not null default 0,
    -- The event at which it stands, because the function failed.
    stopped_at     timestamptz,
    stopped_seq    bigint,
    stopped_event  uuid,
    stopped_type   text,
    attempts       integer     not null default 0,
    reason         text,
    detail         text,
    dropped_at     timestamptz,
    primary key (name, version)
-- Every batch writes a row: room for its next versions beside it.
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
create unique index projections_live on projections (name) where is_live;
comment on table projections is 'Versions of read tables that are built from the log. Written by relays and by outboxd projections.';

-- Events that a person let a projection pass over.
create table projection_skips (
    name       text        not null,
    version    integer     not null,
    seq        bigint      not null,
    event      uuid        not null,
    type       text        not null,
    skipped_at timestamptz not null default clock_timestamp(),
    skipped_by text        not null,
    because    text,
    detail     text,
    primary key (name, version, seq)
);
