-- 0006_contract_use: who was sent which version of a contract. Empty, and never written, unless contracts are configured.
-- Runs with search_path set to the outbox schema, in one transaction. Creates only; locks no table that exists.

-- Counted from real deliveries, and written at most once a minute by each relay. The time at which this migration was applied is the time
-- since when use is counted.
create table contract_use (
    type     text        not null,
    version  bigint      not null check (version > 0),
    -- handler:NAME or client:NAME.
    receiver text        not null,
    first_at timestamptz not null,
    last_at  timestamptz not null,
    events   bigint      not null,
    primary key (type, version, receiver)
);
