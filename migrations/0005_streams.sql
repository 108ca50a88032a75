-- 0005_streams: event-sourced aggregates on the same log. Empty, and never written, unless an application appends to streams.
-- Runs with search_path set to the outbox schema, in one transaction. Creates and adds only; locks no table that exists.

-- The head of each stream: how many events it has. An append locks this row first and draws the numbers of its events after that, so the
-- events of a stream have rising versions and rising numbers, whoever appends. The row stays when the events are archived: a key is not used twice.
create table streams (
    id          bigint      generated always as identity primary key,
    type        text        not null check (type <> '' and octet_length(type) <= 255),
    key         text        not null check (key <> '' and octet_length(key) <= 1000),
    version     bigint      not null check (version > 0),
    -- Set: the stream takes no events.
    archived_at timestamptz,
    unique (type, key)
-- Room for the next version of a head beside the last, so that an append touches no index of this table.
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
comment on table streams is 'Event-sourced aggregates, one row each. Written by append only.';

-- Which event is which version of a stream. An event with a row here is sourced: retention never removes it. No foreign key: its check would
-- cost every append and every removed event a lookup and a lock; `outboxd streams verify` looks for what it would refuse.
create table stream_events (
    stream  bigint not null,
    version bigint not null,
    seq     bigint not null unique,
    -- With the number, so that a stream is read without this table.
    primary key (stream, version) include (seq)
);

-- Folded states that applications keep, so that a long stream is not folded from its beginning. A copy of what the events say: rows can be
-- deleted at any time. `shape` is the number of the fold and of the form of its state; programs with different ones live side by side.
create table stream_states (
    stream   bigint      not null,
    shape    integer     not null,
    version  bigint      not null,
    state    json        not null,
    saved_at timestamptz not null default clock_timestamp(),
    primary key (stream, shape)
) with (fillfactor = 70);

-- Appends, for the library: the same as `append` below, with the parts of the events as arrays, so that payloads stay byte for byte.
-- Definer, so that a producer needs no right on the tables and can neither move a head nor skip a version. The schema is written into it.
-- Returns the version after the last of the events; below zero if they had been appended before, so that a caller can tell.
do $$
begin
    execute format($create$
create function append_events(stream_type text, stream_key text, expected text, ids uuid[], types text[], payloads text[], headers text[], occurred_micros bigint[])
    returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $append$
declare
    count constant integer := cardinality(ids);
    -- Null: exists, any.
    wanted bigint;
    head record;
    appended bigint;
begin
    if stream_type is null or stream_key is null or expected is null then
        raise exception 'outbox: an append names the type and the key of a stream and the version that it expects'
            using errcode = 'invalid_parameter_value';
    elsif expected = 'none' then
        wanted := 0;
    elsif expected ~ '^[0-9]{1,18}$' then
        wanted := expected::bigint;
    elsif expected not in ('exists', 'any') then
        raise exception 'outbox: the expected version is "%%", not a number, none, exists or any', left(expected, 100)
            using errcode = 'invalid_parameter_value';
    end if;
    if coalesce(count, 0) = 0 then
        raise exception 'outbox: an append to %%/%% without events', stream_type, stream_key using errcode = 'invalid_parameter_value';
    end if;

    -- The lock: whoever appends to the same stream waits here until this transaction has ended.
    if expected = 'any' then
        insert into %1$I.streams as s (type, key, version) values (stream_type, stream_key, count)
            on conflict (type, key) do update set version = s.version + count where s.archived_at is null
            returning s.id, s.version into head;
    elsif wanted = 0 then
        insert into %1$I.streams as s (type, key, version) values (stream_type, stream_key, count)
            on conflict (type, key) do nothing
            returning s.id, s.version into head;
    else
        update %1$I.streams s set version = s.version + count
         where s.type = stream_type and s.key = stream_key and s.archived_at is null and (wanted is null or s.version = wanted)
            returning s.id, s.version into head;
    end if;

    if head.id is null or exists (select from %1$I.events e where e.id = any (ids)) then
        -- The transaction may go on after an answer, so the head goes back to where it was.
        if head.id is not null then
            update %1$I.streams s set version = s.version - count where s.id = head.id and s.version > count;
        end if;
        return - %1$I.answer_again(stream_type, stream_key, expected, wanted, ids, types, payloads);
    end if;

    with recorded as (
        insert into %1$I.events (id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers, occurred_at)
        select e.id, e.type, stream_type, stream_key, head.version - count + e.place, e.payload::json, coalesce(e.headers, '{}')::jsonb,
               coalesce(timestamptz 'epoch' + e.occurred_micros * interval '1 microsecond', clock_timestamp())
          from unnest(ids, types, payloads, headers, occurred_micros) with ordinality as e (id, type, payload, headers, occurred_micros, place)
         order by e.place
        returning aggregate_version, seq)
    insert into %1$I.stream_events (stream, version, seq) select head.id, r.aggregate_version, r.seq from recorded r;
    return head.version;
end $append$
$create$, current_schema());

    -- What an append is told that cannot be done: the first answer if it has been done already, or else why not.
    execute format($create$
create function answer_again(stream_type text, stream_key text, expected text, wanted bigint, ids uuid[], types text[], payloads text[])
    returns bigint language plpgsql set search_path = pg_catalog, pg_temp as $answer$
declare
    head record;
    known record;
begin
    select s.id, s.version, s.archived_at into head from %1$I.streams s where s.type = stream_type and s.key = stream_key;
    select count(*) as found, max(v.version) as last,
           coalesce(bool_and(v.version is not null and e.type = w.type and e.payload::text = w.payload), false)
             and count(distinct v.version - w.place) = 1 as is_the_same
      into known
      from unnest(ids, types, payloads) with ordinality as w (id, type, payload, place)
      join %1$I.events e on e.id = w.id
      left join %1$I.stream_events v on v.seq = e.seq and v.stream = head.id;
    if known.found = cardinality(ids) and known.is_the_same then
        return known.last;
    elsif known.found > 0 then
        raise exception 'outbox: %% of the %% events to append to %%/%% are recorded already, as other events, in another order or elsewhere',
                        known.found, cardinality(ids), stream_type, stream_key
            using errcode = 'OB002', hint = 'Give each event an id of its own; repeat an append with all of its events as they were.';
    elsif head.archived_at is not null then
        raise exception 'outbox: stream %%/%% is archived and takes no events', stream_type, stream_key using errcode = 'OB003';
    end if;
    raise exception 'outbox: stream %%/%% is at version %%, expected was %%', stream_type, stream_key, coalesce(head.version, 0), expected
        using errcode = 'OB001',
              detail = json_build_object('type', stream_type, 'key', stream_key, 'expected', expected, 'actual', coalesce(head.version, 0))::text,
              hint = 'Read the stream again and decide anew.';
end $answer$
$create$, current_schema());

    -- Appends, for every language: `select outbox.append('account', 'ann', '3', '[{"type": "points.earned", "payload": {"points": 5}}]')`.
    -- `expected` is the version of the stream before it: a number, 'none', 'exists' or 'any'. Returns the version after the last of the events.
    execute format($create$
create function append(type text, key text, expected text, events jsonb)
    returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as $append$
declare
    given record;
begin
    if jsonb_typeof(events) is distinct from 'array' then
        raise exception 'outbox: the events of an append are a JSON array of objects'
            using errcode = 'invalid_parameter_value', hint = '[{"type": "points.earned", "payload": {"points": 5}}]';
    end if;
    -- In the order of the array, which one function scan keeps.
    select bool_and(jsonb_typeof(e.value) = 'object') as are_objects,
           bool_or(case when jsonb_typeof(e.value) = 'object' then e.value - '{id,type,payload,headers,occurred_at}'::text[] <> '{}' end) as are_strange,
           array_agg(coalesce((e.value ->> 'id')::uuid, gen_random_uuid())) as ids,
           array_agg(e.value ->> 'type') as types,
           array_agg((e.value -> 'payload')::text) as payloads,
           array_agg(case when jsonb_typeof(e.value -> 'headers') <> 'null' then (e.value -> 'headers')::text end) as headers,
           array_agg((extract(epoch from (e.value ->> 'occurred_at')::timestamptz) * 1000000)::bigint) as occurred_micros
      into given
      from jsonb_array_elements(events) e;
    if not given.are_objects then
        raise exception 'outbox: the events of an append are a JSON array of objects'
            using errcode = 'invalid_parameter_value', hint = '[{"type": "points.earned", "payload": {"points": 5}}]';
    elsif given.are_strange then
        raise exception 'outbox: an event of an append has a field with an unknown name'
            using errcode = 'invalid_parameter_value', hint = 'The fields are id, type, payload, headers and occurred_at.';
    end if;
    return abs(%1$I.append_events($1, $2, $3, given.ids, given.types, given.payloads, given.headers, given.occurred_micros));
end $append$
$create$, current_schema());

    execute format('create function append(type text, key text, expected bigint, events jsonb) returns bigint language sql as '
                   '$append$ select %I.append($1, $2, $3::text, $4) $append$', current_schema());

    -- Locks streams until the transaction ends, always in the same order, so that two transactions that lock several of them first do not deadlock:
    -- `select outbox.lock_streams('{account,account}', '{ann,bob}')`. One that does not exist is left out. Returns how many there are.
    execute format($create$
create function lock_streams(types text[], keys text[])
    returns bigint language sql security definer set search_path = pg_catalog, pg_temp as $lock$
    select count(*) from (
        select from %1$I.streams s
         where (s.type, s.key) in (select w.type, w.key from unnest(types, keys) as w (type, key))
         order by s.type collate "C", s.key collate "C" for update) locked
$lock$
$create$, current_schema());
end $$;
-- Whoever may append may write events; that is for the owner to grant.
revoke execute on function append_events(text, text, text, uuid[], text[], text[], text[], bigint[]) from public;
revoke execute on function answer_again(text, text, text, bigint, uuid[], text[], text[]) from public;
revoke execute on function append(text, text, text, jsonb) from public;
revoke execute on function append(text, text, bigint, jsonb) from public;
revoke execute on function lock_streams(text[], text[]) from public;

-- An event that somebody deletes by hand: not one that a stream needs. The version would be there without its event.
create or replace function forget_event() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    place record;
begin
    execute format('select s.type, s.key, v.version from %1$I.stream_events v left join %1$I.streams s on s.id = v.stream where v.seq = $1', tg_table_schema)
       into place using old.seq;
    if place.version is not null then
        raise exception 'outbox: the event is version % of the stream %/%, which could not be read without it', place.version, place.type, place.key
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'To remove data of a person: outboxd events erase --include-sourced.';
    end if;
    execute format('update %I.replay_items set state = ''dropped'', ended_at = clock_timestamp()
                     where seq = $1 and state in (''held'', ''released'')', tg_table_schema) using old.seq;
    execute format('update %I.deliveries
                       set state = ''discarded'', reason = ''event_gone'', detail = ''the event was deleted from the log'',
                           handled_at = clock_timestamp(), due_at = null, holds_key = false
                     where seq = $1 and state in (''retrying'', ''waiting'', ''dead'')', tg_table_schema) using old.seq;
    execute format('delete from %I.feed where seq = $1', tg_table_schema) using old.seq;
    return null;
end $$;

-- For tests: an empty log has no streams. Locks in the order in which an append does.
do $$
begin
    execute format(
        'create or replace function truncate_log() returns void language plpgsql as '
        '$body$ begin
             perform set_config(''outboxd.changes_log'', ''on'', true);
             truncate %1$I.streams, %1$I.events, %1$I.deliveries, %1$I.attempts, %1$I.replay_items, %1$I.replays, %1$I.dead_letter_notes, %1$I.feed,
                      %1$I.stream_events, %1$I.stream_states;
             update %1$I.feed_removed set place = (select places from %1$I.feed_places), event = null;
             perform set_config(''outboxd.changes_log'', ''off'', true);
         end $body$', current_schema());
end $$;
