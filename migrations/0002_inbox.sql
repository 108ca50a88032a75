-- 0002_inbox: what receivers have handled, for those that keep their mark in a Postgres of this schema.
-- Runs with search_path set to the outbox schema, in one transaction; creates only, takes no lock on anything that exists.

-- One row per event and receiver, inserted by the receiver in its own transaction. A primary key and nothing to look up: the second of
-- two receivers that handle the same event at once waits here for the first.
create table inbox (
    receiver   text        not null,
    source     text        not null,
    id         text        not null,
    handled_at timestamptz not null default clock_timestamp(),
    primary key (receiver, source, id)
);
comment on table inbox is 'Events that a receiver has handled: marked in the transaction of their effect, so that a repeated delivery has none.';
create index inbox_by_age on inbox (handled_at);

-- The mark, for receivers in any language: `select outbox.once('stock', 'shop', '<id>')`. True: go on; false: it has been handled before.
-- The schema is written into it, because the search_path of a receiver is its own.
do $$
begin
    execute format('create function once(receiver text, source text, id text) returns boolean language plpgsql as '
                   '$once$ begin insert into %I.inbox (receiver, source, id) values ($1, $2, $3) on conflict do nothing; return found; end $once$',
                   current_schema());
end $$;
