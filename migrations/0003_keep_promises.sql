-- 0003_keep_promises: what the relay needs to keep its promises with any data, any session and any failure of the server.
-- Runs with search_path set to the outbox schema, in one transaction. Creates and adds only; removes no row and no column.

-- Whose fault it is: the only event by which an open circuit is judged, for status, alert and `keys list`. Null: there are others.
alter table subscriptions add column circuit_witness uuid;

-- Whose fault it is: destinations (routing keys, subjects, topics, streams) that take nothing although others of the same handler do.
-- Written by the owner of the subscription, few, and removed when the destination takes events again.
create table destinations (
    subscription  integer     not null references subscriptions on delete cascade,
    name          text        not null,
    since         timestamptz not null default clock_timestamp(),
    probe_at      timestamptz not null default clock_timestamp(),
    probes        integer     not null,
    status        integer,
    reason        text        not null,
    detail        text,
    primary key (subscription, name)
);
-- Which of them a retrying delivery waits for. Null: for none.
alter table deliveries add column destination text;
create index deliveries_by_destination on deliveries (subscription, destination) where destination is not null;
