-- 0010_client_cursors: where clients of the feed stand, if they leave that to the server. Empty, and never written, unless a client has
-- `cursors` in the configuration.
-- Runs with search_path set to the outbox schema, in one transaction. Creates only; locks no table that exists.

create table client_cursors (
    client   text        not null,
    -- A client has one cursor for each purpose that the configuration names.
    name     text        not null,
    -- The place that is part of the cursor, for comparisons.
    place    bigint      not null check (place >= 0),
    -- In the plain form, whatever form clients are given.
    cursor   text        not null,
    -- Drawn anew with each change: a client names the one that it has seen.
    revision uuid        not null default gen_random_uuid(),
    moved_at timestamptz not null default clock_timestamp(),
    primary key (client, name)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
