-- The shop's own tables, and the function that the relay's handler "stock" calls. The outbox has a schema of its own, which the shop
-- only inserts into. May run at every start.
create schema if not exists shop;

create sequence if not exists shop.order_numbers;

create table if not exists shop.products (sku text primary key, price_cents bigint not null);
insert into shop.products values ('tea', 500), ('mug', 1200), ('kettle', 4900) on conflict do nothing;

create table if not exists shop.orders (
    id          bigint primary key,
    customer    text   not null,
    sku         text   not null references shop.products,
    quantity    int    not null,
    total_cents bigint not null,
    status      text   not null,
    version     bigint not null default 1
);

create table if not exists shop.receipts (order_id bigint primary key references shop.orders, card_last_four text not null);

create table if not exists shop.accounts (customer text primary key, points bigint not null, version bigint not null);

-- Every change of an account's points.
create table if not exists shop.statements (customer text not null, points bigint not null);

-- Who likes what. Only inserted into: a row per product with a count in it would let every order of it wait for every other.
create table if not exists shop.tastes (customer text not null, sku text not null);

-- Kept up to date by the relay, a moment after the order: a read model.
create table if not exists shop.stock (sku text primary key references shop.products, on_hand int not null, reserved int not null default 0);
insert into shop.stock (sku, on_hand) select sku, 1000 from shop.products on conflict do nothing;

-- Called in the transaction that records the event as handled: each event changes the stock once, without a mark in the inbox.
create or replace function shop.project_stock(id uuid, type text, key text, payload jsonb, headers jsonb) returns void
language plpgsql as $$
begin
    update shop.stock
       set reserved = reserved + case type when 'order.placed' then 1 else -1 end * (payload ->> 'quantity')::int
     where sku = payload ->> 'sku';
    if not found then
        raise exception 'there is no stock of %', payload ->> 'sku' using errcode = 'OX001'; -- no retry would help: a dead letter
    end if;
end $$;

-- What the mailer has sent. It is another service, so nothing here refers to the tables above; in a database of its own it would have
-- the inbox of that one. No key on the event on purpose: it is the inbox that keeps a second delivery from being a second mail.
create schema if not exists mailer;
create table if not exists mailer.mails (
    event_id text        not null,
    customer text        not null,
    subject  text        not null,
    trace    text,
    sent_at  timestamptz not null default now()
);
