-- 0004_feed: places for the events that clients may read. Empty, and never written, unless [feed] is configured.
-- Runs with search_path set to the outbox schema, in one transaction. Creates and adds only; locks no table that exists.

-- The types of the events that have a place, so that a reader can filter by type without a look at the event. Numbered by the publisher.
create table types (
    id   integer primary key,
    type text    not null unique
);

-- The place of each event in the feed: dense, in the order in which the publisher has read the log. A place goes with its event.
create table feed (
    place   bigint  primary key,
    seq     bigint  not null unique,
    type_id integer not null
);

-- How many places were given. One row, made when the feed begins, so that a copy of the data fits into an outbox that has just been made;
-- the publisher updates it with every window.
create table feed_places (
    only_row boolean primary key default true check (only_row),
    places   bigint  not null default 0
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- What retention has removed: the highest place that is gone, its event, and how many there were. One row,
-- made when the feed begins.
create table feed_removed (
    only_row    boolean     primary key default true check (only_row),
    place       bigint      not null default 0,
    event       uuid,
    occurred_at timestamptz,
    events      bigint      not null default 0
);

-- The histories of the places: a row whenever the publisher finds another server than before. A cursor names the epoch of its place, so a
-- place that was given by a server that was lost is recognised.
create table feed_epochs (
    number      integer     primary key,
    epoch       uuid        not null unique,
    -- Places above this one belong to this epoch or to a later one.
    began_after bigint      not null,
    at          timestamptz not null default clock_timestamp(),
    why         text        not null check (why in ('first', 'timeline', 'rebase')),
    -- Cluster, timeline, database and outbox, as one text.
    server      text        not null
);

-- An event that somebody deletes by hand loses its place, too.
create or replace function forget_event() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    execute format('update %I.replay_items set state = ''dropped'', ended_at = clock_timestamp()
                     where seq = $1 and state in (''held'', ''released'')', tg_table_schema) using old.seq;
    execute format('update %I.deliveries
                       set state = ''discarded'', reason = ''event_gone'', detail = ''the event was deleted from the log'',
                           handled_at = clock_timestamp(), due_at = null, holds_key = false
                     where seq = $1 and state in (''retrying'', ''waiting'', ''dead'')', tg_table_schema) using old.seq;
    execute format('delete from %I.feed where seq = $1', tg_table_schema) using old.seq;
    return null;
end $$;

-- For tests: an empty log has no places. Cursors go on behind the last one that was given.
do $$
begin
    execute format(
        'create or replace function truncate_log() returns void language plpgsql as '
        '$body$ begin
             perform set_config(''outboxd.changes_log'', ''on'', true);
             truncate %1$I.events, %1$I.deliveries, %1$I.attempts, %1$I.replay_items, %1$I.replays, %1$I.dead_letter_notes, %1$I.feed;
             update %1$I.feed_removed set place = (select places from %1$I.feed_places), event = null;
             perform set_config(''outboxd.changes_log'', ''off'', true);
         end $body$', current_schema());
end $$;
