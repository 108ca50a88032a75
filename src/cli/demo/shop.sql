-- The sample application: its own table, and a projection that the relay's `sql` handler fills, exactly once per event.
create table {shop}.orders (
    id           bigint  generated always as identity primary key,
    amount_cents bigint  not null,
    status       text    not null default 'placed',
    step         integer not null default 1
);

create table {shop}.order_totals (
    order_id     bigint  primary key,
    amount_cents bigint  not null,
    status       text    not null,
    events       integer not null -- would show an event that was applied twice or not at all
);

create function {shop}.project_order(id uuid, type text, key text, payload jsonb, headers jsonb) returns void
    language sql as $$
    insert into {shop}.order_totals as known (order_id, amount_cents, status, events)
    values ((payload ->> 'order')::bigint, (payload ->> 'amount_cents')::bigint, payload ->> 'status', 1)
    on conflict (order_id) do update set status = excluded.status, events = known.events + 1
$$;
