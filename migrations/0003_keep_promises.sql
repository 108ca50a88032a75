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

-- Rows and numbers of the log belong together: positions, deliveries and replays know an event by `tx` and `seq`. What would part them
-- is refused with what to do instead. The owner can still disable a trigger, or set outboxd.changes_log to on, as the relay itself does
-- where it removes events. Each condition stands in the trigger, so that a good row pays for no call.
create function refuse_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'TRUNCATE' then
        raise exception 'outbox: the events cannot be truncated: what is pending would be lost, and positions would speak of numbers that are given out again'
            using errcode = 'object_not_in_prerequisite_state',
                  hint = format('In a test: select %I.truncate_log(). To remove data of a person: outboxd events erase.', tg_table_schema);
    elsif tg_op = 'UPDATE' then
        raise exception 'outbox: tx, seq and id of an event never change: positions and receivers know it by them'
            using errcode = 'object_not_in_prerequisite_state', hint = 'Record another event. To remove data of a person: outboxd events erase.';
    end if;
    return null;
end $$;
create trigger refuse_truncate before truncate on events for each statement
    when (current_setting('outboxd.changes_log', true) is distinct from 'on') execute function refuse_change();
create trigger refuse_update before update of tx, seq, id on events for each statement
    when (current_setting('outboxd.changes_log', true) is distinct from 'on') execute function refuse_change();

-- A transaction id that is not the one of the writer lies behind positions that have passed it: the event would never be read. A
-- restore into an outbox that no relay has served yet, or that was copied, keeps the ids of the rows; a rebase follows it.
create function refuse_foreign_tx() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    is_served boolean;
begin
    execute format('select exists (select from %1$I.incarnation i
                                    where i.relation = ''%1$I.incarnation''::regclass::oid
                                      and i.xmin::text::bigint = i.tx::text::bigint & 4294967295)', tg_table_schema) into is_served;
    if is_served then
        raise exception 'outbox: the event names a transaction id of its own (tx = %), so no handler would ever read it', new.tx
            using errcode = 'object_not_in_prerequisite_state', hint = 'Leave tx and seq out of the insert; they fill themselves.';
    end if;
    return null;
end $$;
create trigger refuse_foreign_tx after insert on events for each row
    when (new.tx is distinct from pg_current_xact_id()) execute function refuse_foreign_tx();

-- An event that somebody deletes by hand: what handlers are still owed of it ends visibly, and their keys go on.
create function forget_event() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    execute format('update %I.replay_items set state = ''dropped'', ended_at = clock_timestamp()
                     where seq = $1 and state in (''held'', ''released'')', tg_table_schema) using old.seq;
    execute format('update %I.deliveries
                       set state = ''discarded'', reason = ''event_gone'', detail = ''the event was deleted from the log'',
                           handled_at = clock_timestamp(), due_at = null, holds_key = false
                     where seq = $1 and state in (''retrying'', ''waiting'', ''dead'')', tg_table_schema) using old.seq;
    return null;
end $$;
create trigger forget_event after delete on events for each row
    when (current_setting('outboxd.changes_log', true) is distinct from 'on') execute function forget_event();

-- For tests: an empty log. Positions, handlers and numbers stay, so a relay that runs meanwhile has nothing to do and goes on. The schema
-- is written into it, because the search_path of a test is its own.
do $$
begin
    execute format(
        'create function truncate_log() returns void language plpgsql as '
        '$body$ begin
             perform set_config(''outboxd.changes_log'', ''on'', true);
             truncate %1$I.events, %1$I.deliveries, %1$I.attempts, %1$I.replay_items, %1$I.replays, %1$I.dead_letter_notes;
             perform set_config(''outboxd.changes_log'', ''off'', true);
         end $body$', current_schema());
end $$;

-- Schemas of 56 to 63 characters: the channel of the bell is cut to the 63 bytes that a channel may have. Before, an insert failed while the
-- relay slept.
do $$
begin
    execute format('create or replace function ring_bell() returns trigger language plpgsql as '
                   '$bell$ begin perform pg_notify(%L, ''''); return null; end $bell$', left('outboxd_' || current_schema(), 63));
end $$;

-- Data is not an outage: ordering keys are taken from what producers wrote, and one row must not be able to stop every read.

-- The ordering key of an event for a handler: its aggregate, a header, or a value in the payload. Null: in no order with anything.
-- Fails where the payload has an escape for a character that no text can hold (NUL, half of a surrogate pair), wherever in the
-- payload that is. The relay reads the log with it first, because it costs nothing, and with ordering_key where it fails.
create function quick_key(aggregate_type text, aggregate_id text, headers jsonb, payload json, source text, path text[])
    returns text language sql immutable parallel safe as $$
    select case source
           when 'aggregate' then coalesce(aggregate_type, '') || '/' || aggregate_id
           when 'header' then headers ->> path[1]
           when 'payload' then payload #>> path
           end
$$;

-- The value at a path of a payload as text; never fails. Null: there is no value, or, if `is_unreadable`, one that no text can hold.
-- Not parallel safe, because a block with an exception is a subtransaction.
create function readable_key(payload json, path text[], out key text, out is_unreadable boolean)
    language plpgsql immutable parallel unsafe as $$
declare
    -- Escape strings throughout: what a plain literal means depends on standard_conforming_strings.
    no_character constant text := E'\\\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})';
    a_pair constant text := E'\\\\u([dD][89abAB][0-9a-fA-F]{2})\\\\u([dD][c-fC-F][0-9a-fA-F]{2})';
    -- Stands for each such escape; another one shows whether it is part of the value.
    substitute constant text := E'\\ue000';
    escaped text;
begin
    is_unreadable := false;
    begin
        key := payload #>> path;
        return;
    exception when data_exception or program_limit_exceeded then
        null;
    end;
    -- An escaped backslash is written as another escape for it, so that whatever begins with a backslash now is one escape. The
    -- substitute itself, where a producer has written it, as the character: it is not replaced below.
    escaped := replace(replace(payload::text, E'\\\\', E'\\u005c'), substitute, chr(57344));
    if strpos(escaped, E'\\ud') = 0 and strpos(escaped, E'\\uD') = 0 then
        escaped := replace(escaped, E'\\u0000', substitute);
    else
        -- Whole pairs are set aside while the rest is replaced: JSON knows no escape \v.
        escaped := regexp_replace(escaped, a_pair, E'\\v\\1\\2', 'g');
        escaped := regexp_replace(escaped, no_character, E'\\\\ue000', 'g');
        escaped := regexp_replace(escaped, E'\\\\v(.{4})(.{4})', E'\\\\u\\1\\\\u\\2', 'g');
    end if;
    key := escaped::json #>> path;
    if (strpos(key, chr(57344)) > 0 or strpos(key, substitute) > 0) and key is distinct from replace(escaped, substitute, E'\\ue001')::json #>> path then
        key := null;
        is_unreadable := true;
    end if;
exception when data_exception or program_limit_exceeded then
    key := null;
    is_unreadable := true;
end $$;

create or replace function ordering_key(aggregate_type text, aggregate_id text, headers jsonb, payload json, source text, path text[])
    returns text language sql immutable as $$
    select case source
           when 'aggregate' then coalesce(aggregate_type, '') || '/' || aggregate_id
           when 'header' then headers ->> path[1]
           when 'payload' then case when strpos(payload::text, E'\\u') = 0 then payload #>> path else (readable_key(payload, path)).key end
           end
$$;

-- A key as it is stored, listed and compared: an index entry has room for some 2,700 bytes. A longer one is its beginning and a hash of
-- all of it, so that two different keys stay different.
create function shortened_key(key text) returns text
    language plpgsql immutable parallel safe strict as $$
begin
    return left(key, 128) || '...' || encode(sha256(convert_to(key, 'UTF8')), 'hex');
end $$;

-- The schema is written into it, because receivers call it with a search_path of their own.
do $$
begin
    execute format('create function bounded_key(key text) returns text language sql immutable parallel safe as '
                   '$key$ select case when octet_length(key) > 800 then %I.shortened_key(key) else key end $key$', current_schema());
end $$;

-- Keys that were short enough when compressed. What is finished is never looked for by its key alone.
update deliveries set key = bounded_key(key) where state in ('retrying', 'waiting', 'dead') and octet_length(key) > 800;

-- Receivers' marks: what others call their events may be longer than an index entry, too.
do $$
begin
    execute format('create or replace function once(receiver text, source text, id text) returns boolean language plpgsql as '
                   '$once$ begin insert into %1$I.inbox (receiver, source, id) '
                   'values (%1$I.bounded_key($1), %1$I.bounded_key($2), %1$I.bounded_key($3)) on conflict do nothing; return found; end $once$',
                   current_schema());
end $$;

-- Vacuum that fits the use. Of the log, rows go at one end: what is left of them in the indexes is in the way of whoever reads from there.
-- Of the deliveries, a few rows are updated again and again among millions that never are, so a share of the table would come far too late.
alter table events set (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 5000,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 5000);
alter table deliveries set (
    autovacuum_vacuum_scale_factor = 0.005, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 2000);

-- Progress and ages: what a relay says about each subscription that it owns, and when which transactions had committed.

-- One row per subscription, written by the owner's observer and never by a flush, so that it can be written while a flush hangs.
create table progress (
    subscription   integer     primary key,
    -- The subscription's name for people; the row stays when the subscription is deleted under a running relay.
    name           text        not null,
    instance       text        not null,
    seen_at        timestamptz not null default clock_timestamp(),
    -- The last read that succeeded, or the last moment at which the loop did not read on purpose; the last flush that succeeded.
    read_at        timestamptz,
    flushed_at     timestamptz,
    -- What keeps it from going on. All null while nothing does.
    failing_since  timestamptz,
    failed_at      timestamptz,
    failures       bigint,
    operation      text,
    sqlstate       text,
    error          text,
    event          uuid,
    -- The receiver asked for a pause (Retry-After) that ends then.
    waiting_until  timestamptz,
    waiting_reason text,
    -- The last answer that was no delivery, whether it has spent an attempt or not.
    answered_at     timestamptz,
    answered_event  uuid,
    answered_reason text,
    answered_status integer,
    answered_detail text,
    -- Nothing is pending, retrying or waiting, and nothing has happened since that was counted; and how many dead letters there were then.
    at_rest         boolean not null default false,
    dead            bigint
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- A row every ten seconds while a relay runs: what is not visible in `snapshot` committed after `at`. Ages are counted from these
-- moments because `occurred_at` is whatever the application says. Thinned out: ten seconds for an hour, a minute for a day, an hour for 60 days.
create table moments (
    at         timestamptz primary key,
    snapshot   pg_snapshot not null,
    high_seq   bigint      not null,
    keep_until timestamptz not null
);
create index moments_by_seq on moments (high_seq, at);
create index moments_by_end on moments (keep_until);

-- When an event was committed, as the relays saw it: `occurred_at`, but not before the last moment at which its transaction was not
-- visible yet and not after the first at which it was.
create function committed_at(tx xid8, seq bigint, occurred_at timestamptz) returns timestamptz
    language sql stable as $$
    select greatest((select m.at from moments m
                      where m.at < coalesce(seen.at, 'infinity') and not pg_visible_in_snapshot($1, m.snapshot)
                      order by m.at desc limit 1),
                    least($3, coalesce(seen.at, clock_timestamp())))
      from (select (select m.at from moments m
                     where m.high_seq >= $2 and pg_visible_in_snapshot($1, m.snapshot)
                     order by m.high_seq, m.at limit 1) as at) seen
$$;

-- Retrying and waiting deliveries: the oldest is one probe, and how many there are is counted without the table.
create index deliveries_parked on deliveries (subscription, seq) include (state) where state in ('retrying', 'waiting');
