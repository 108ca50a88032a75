-- 0001_outbox: the log, the positions, the outcomes and what operators need around them.
-- Runs with search_path set to the outbox schema, in one transaction; creates only, takes no lock on anything that exists.
-- Written for Postgres 14 and later.

-- The bound on one payload, in bytes. `outboxd migrate` replaces the function when the configuration says another number;
-- it is immutable so that the check constraint below folds it into a constant.
create function max_payload_bytes() returns integer
    language sql immutable parallel safe
    as 'select 1048576';

-- Says what is wrong with a row. Called by the check constraint for refused rows only, so a good row never pays for it.
-- The caller's search_path is not ours and setting one inside an immutable-looking check would cost every row, hence the
-- bound arrives as an argument.
create function refuse_event(event_type text, aggregate_id text, payload json, payload_bytes integer, headers jsonb, bound integer)
    returns boolean language plpgsql as $$
begin
    if event_type is null or event_type = '' then
        raise exception 'outbox: the event has no type'
            using errcode = 'check_violation', hint = 'Name what happened, for example ''order.placed''.';
    elsif octet_length(event_type) > 255 then
        raise exception 'outbox: the event type has % bytes, 255 are allowed', octet_length(event_type)
            using errcode = 'check_violation', hint = 'Put what varies into the payload or the headers.';
    elsif json_typeof(payload) is distinct from 'object' then
        raise exception 'outbox: the payload of event "%" is a JSON %, not an object', event_type, json_typeof(payload)
            using errcode = 'check_violation', hint = 'Wrap the value: {"value": ...}.';
    elsif payload_bytes > bound then
        raise exception 'outbox: the payload of event "%" has % bytes, % are allowed', event_type, payload_bytes, bound
            using errcode = 'check_violation',
                  hint = 'Store the bulk elsewhere and record a reference, or raise outbox.max_payload and run "outboxd migrate".';
    elsif jsonb_typeof(headers) is distinct from 'object' then
        raise exception 'outbox: the headers of event "%" are a JSON %, not an object', event_type, jsonb_typeof(headers)
            using errcode = 'check_violation', hint = 'Headers are names and values: {"traceparent": "00-..."}.';
    end if;
    return false;
end $$;

-- The log. Append-only: the relay never updates a row; retention deletes finished ones.
create table events (
    -- First column on purpose: defaults are evaluated in column order, so the transaction has its number before `seq` is
    -- drawn. "Every row with tx >= X has a seq drawn after X was current" is what bounds the paging of a large window.
    tx                xid8        not null default pg_current_xact_id(),
    seq               bigint      generated always as identity (cache 1) primary key,
    id                uuid        not null default gen_random_uuid() unique,
    type              text        not null,
    aggregate_type    text,
    aggregate_id      text,
    aggregate_version bigint,
    -- json, not jsonb: it goes out byte for byte as it came in.
    payload           json        not null,
    headers           jsonb       not null default '{}',
    occurred_at       timestamptz not null default clock_timestamp(),
    payload_bytes     integer     not null generated always as (octet_length(payload::text)) stored,
    constraint event_is_well_formed check (
        case when type <> '' and octet_length(type) <= 255
              and json_typeof(payload) = 'object' and octet_length(payload::text) <= max_payload_bytes()
              and jsonb_typeof(headers) = 'object'
             then true
             else refuse_event(type, aggregate_id, payload, octet_length(payload::text), headers, max_payload_bytes())
        end)
);
comment on table events is 'The outbox: insert a row in the transaction that changes your own tables. Needs type and payload; tx, seq and id fill themselves.';
comment on column events.id is 'Public idempotency key: the same on every attempt and replay.';
comment on column events.seq is 'Internal order inside a window; not dense, not the order of commits. Never an idempotency key.';

create index events_window on events (tx, seq);

-- One row per handler and partition: how far it has read, who reads, whether it is held.
create table subscriptions (
    id                integer     generated always as identity primary key,
    handler           text        not null,
    partition         integer     not null default 0,
    partitions        integer     not null default 1,
    -- What the handler wants, as configured; for the view and for people, the relay passes its own copy.
    kind              text        not null,
    type_patterns     text[],
    aggregate_types   text[],
    required_headers  jsonb,
    -- Where the ordering key comes from: with several partitions it decides which of them has an event.
    key_source        text        not null default 'aggregate',
    key_path          text[]      not null default '{}',
    -- Position: everything visible in `snapshot` has an outcome. If a window is open, also everything that is visible in
    -- `window_snapshot` with seq <= window_seq. `low_seq` was the sequence before `snapshot` was taken, `high_seq` after.
    snapshot          pg_snapshot not null,
    low_seq           bigint      not null,
    high_seq          bigint      not null,
    window_snapshot   pg_snapshot,
    window_seq        bigint,
    window_high_seq   bigint,
    -- Finished beyond the position, when successes leave no row of their own (record = "failures").
    done              int8multirange,
    moved_at          timestamptz not null default clock_timestamp(),
    -- Lease: one owner at a time. Every write of the owner says `where epoch = <its own>`.
    owner             text,
    lease_until       timestamptz,
    epoch             bigint      not null default 0,
    -- Held by a person.
    paused_at         timestamptz,
    paused_by         text,
    pause_reason      text,
    -- Held by the circuit breaker.
    circuit           text        not null default 'closed' check (circuit in ('closed', 'open', 'half_open')),
    circuit_since     timestamptz,
    circuit_until     timestamptz,
    circuit_reason    text,
    -- Rise when a person moved the position or closed the circuit: how the owner, who keeps the lease, learns of it.
    moves             integer     not null default 0,
    circuit_closings  integer     not null default 0,
    created_at        timestamptz not null default clock_timestamp(),
    unique (handler, partition)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

create type delivery_state as enum ('delivered', 'retrying', 'waiting', 'dead', 'discarded');

-- One event owed to one handler. A first-try success is one insert and never touched again.
create table deliveries (
    seq              bigint         not null,
    handled_at       timestamptz,
    due_at           timestamptz,
    first_attempt_at timestamptz,
    subscription     integer        not null, -- no foreign key: its check would cost every success row a lookup and a lock
    state            delivery_state not null,
    attempts         integer        not null,
    status           integer,
    key              text,
    reason           text,
    detail           text,
    replay           uuid,
    -- Of a dead letter: what failed, without what differs from one to the next, and the number of its group. See domain/error_group.rs.
    error            text,
    fingerprint      bigint,
    -- Of a dead letter: later events of its key wait for it. Null: they never did. False: a person let the key go on.
    holds_key        boolean,
    primary key (subscription, seq)
);
create index deliveries_due on deliveries (subscription, due_at) where state = 'retrying';
create index deliveries_by_key on deliveries (subscription, key, seq) where state in ('retrying', 'waiting', 'dead');
create index deliveries_dead on deliveries (subscription, handled_at) where state = 'dead';
create index deliveries_by_group on deliveries (subscription, fingerprint, handled_at, seq) where state = 'dead';
create index deliveries_unfinished on deliveries (seq) where state in ('retrying', 'waiting', 'dead');

-- History of the tries that did not succeed at once, and of what had been delivered before a person moved the position back.
create table attempts (
    at           timestamptz not null default clock_timestamp(),
    seq          bigint      not null,
    subscription integer     not null,
    attempt      integer     not null,
    duration_ms  integer     not null,
    status       integer,
    ambiguous    boolean     not null default false,
    outcome      text        not null,
    reason       text        not null,
    detail       text,
    instance     text
);
create index attempts_by_delivery on attempts (subscription, seq, at);

-- What people wrote about a group of dead letters.
create table dead_letter_notes (
    id          bigint      generated always as identity primary key,
    at          timestamptz not null default clock_timestamp(),
    actor       text        not null,
    handler     text        not null,
    fingerprint bigint      not null,
    text        text        not null
);
create index dead_letter_notes_by_group on dead_letter_notes (handler, fingerprint, id);

-- A replay is a durable object: what was asked, by whom, how many, how fast.
create table replays (
    id           uuid        primary key default gen_random_uuid(),
    at           timestamptz not null default clock_timestamp(),
    actor        text        not null,
    handler      text,
    filter       jsonb       not null default '{}',
    note         text,
    asked        bigint      not null default 0,
    -- Deliveries that may leave in a second, over all subscriptions; null: as many as the handlers take.
    rate         double precision check (rate > 0),
    -- The token bucket: everything that left by then is paid for.
    next_at      timestamptz not null default clock_timestamp(),
    state        text        not null default 'running' check (state in ('running', 'cancelled', 'done')),
    cancelled_by text,
    ended_at     timestamptz,
    -- The outcome, as soon as nothing is open any more; the items may be gone then.
    delivered    bigint,
    failed       bigint,
    dropped      bigint,
    cancelled    bigint
);
create index replays_open on replays (at, id) where delivered is null;

create type replay_item_state as enum ('held', 'released', 'delivered', 'failed', 'dropped', 'cancelled');

-- The set of a replay, frozen at the moment of the command. A held item changes nothing about its delivery, so a cancelled one is
-- what it was. The relay that owns the subscription releases the next ones, in order of (round, seq): a round has a few of each key,
-- so that a key with a thousand of them does not stand before all others.
create table replay_items (
    replay       uuid              not null,
    seq          bigint            not null,
    subscription integer           not null,
    round        integer           not null,
    state        replay_item_state not null default 'held',
    was          delivery_state    not null,
    released_at  timestamptz,
    ended_at     timestamptz,
    primary key (replay, subscription, seq)
);
-- No delivery is in two replays at once, whoever asks.
create unique index replay_items_open on replay_items (seq, subscription) where state in ('held', 'released');
create index replay_items_held on replay_items (subscription, replay, round, seq) where state = 'held';
create index replay_items_unfinished on replay_items (replay, round, seq) where state in ('held', 'released');

-- Who did what to which deliveries or handlers, and why.
create table audit (
    id         bigint      generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    actor      text        not null,
    action     text        not null,
    handler    text,
    filter     jsonb       not null default '{}',
    affected   bigint      not null default 0,
    reason     text
);

-- Conditions a human must know of: one row per kind and subject, kept for a while after it is over.
create table alerts (
    key             text        primary key,
    kind            text        not null,
    -- The handler or channel it is about; empty: the relay as a whole.
    subject         text        not null default '',
    severity        text        not null check (severity in ('info', 'warning', 'critical')),
    -- Pending: the condition holds, not yet for long enough; nobody is told.
    status          text        not null check (status in ('pending', 'firing', 'acknowledged', 'resolved')),
    started_at      timestamptz not null,
    last_seen_at    timestamptz not null,
    -- The last change that people are told of, and how many there were.
    changed_at      timestamptz not null,
    revision        bigint      not null,
    count           bigint      not null,
    age_seconds     bigint,
    detail          text,
    sample          jsonb,
    told_count      bigint      not null,
    told_at         timestamptz not null,
    clear_since     timestamptz,
    snoozed_until   timestamptz,
    acknowledged_by text
);

-- What each channel was last told of each alert, so that a new owner neither forgets nor tells it twice.
create table alert_notices (
    alert     text        not null references alerts (key) on delete cascade,
    channel   text        not null,
    revision  bigint      not null,
    is_firing boolean     not null,
    sent_at   timestamptz not null,
    -- The id of what first told of this firing; answers go under it.
    thread    text,
    primary key (alert, channel)
);

-- How each channel is doing.
create table alert_channels (
    name         text        primary key,
    kind         text        not null,
    last_sent_at timestamptz,
    -- Failures in a row since.
    failures     integer     not null default 0,
    last_error   text,
    failed_at    timestamptz,
    retry_at     timestamptz
);

-- Who looks and tells: one instance at a time, by a lease like that of a subscription. Every write of the owner passes the epoch.
create table alert_lease (
    only_row    boolean     primary key default true check (only_row),
    owner       text,
    lease_until timestamptz,
    epoch       bigint      not null default 0
);

-- The relays that are or were running.
create table instances (
    id         text        primary key,
    host       text        not null,
    pid        integer     not null,
    version    text        not null,
    started_at timestamptz not null default clock_timestamp(),
    seen_at    timestamptz not null default clock_timestamp(),
    -- How often a person has asked it to read its configuration again, which of that it has answered, and its last answer.
    reload_asked    integer not null default 0,
    reload_answered integer not null default 0,
    reloaded_at     timestamptz,
    reload          jsonb
);

-- The server that the stored snapshots belong to; one row, written by the first relay. `relation`, `tx` and `migrated_by` prove that
-- the row was written here: a copy by dump or logical replication has another table number, another xmin, and so has the row in
-- `migrations`. A copy of the files, a promoted standby and pg_upgrade keep all three. So never rewrite this table.
create table incarnation (
    only_row          boolean primary key default true check (only_row),
    system_identifier bigint  not null,
    timeline          text    not null,
    database          oid     not null,
    relation          oid     not null,
    tx                xid8    not null,
    migrated_by       xid,
    confirmed_at      timestamptz not null default clock_timestamp()
);

-- The bell. It rings only while a relay sleeps: an awake relay leaves the lock free, so the writer gets it shared and the
-- trigger does not fire; a sleeping one holds it exclusively. NOTIFY on every insert would serialise all commits.
do $$
declare
    key bigint := hashtextextended('outboxd bell ' || current_schema(), 0);
begin
    execute format('create function bell_key() returns bigint language sql immutable parallel safe as ''select %s::bigint''', key);
    execute format('create function ring_bell() returns trigger language plpgsql as '
                   '$bell$ begin perform pg_notify(%L, ''''); return null; end $bell$', 'outboxd_' || current_schema());
    execute format('create trigger ring_bell after insert on events for each statement '
                   'when (not pg_try_advisory_xact_lock_shared(%s)) execute function ring_bell()', key);
end $$;

-- Whether a subscription wants an event; `partition` decides by the ordering key, which only the relay knows, and is not looked at.
create function wants(s subscriptions, e events) returns boolean
    language sql stable parallel safe as $$
    select (s.type_patterns is null or e.type like any (s.type_patterns))
       and (s.aggregate_types is null or e.aggregate_type = any (s.aggregate_types))
       and (s.required_headers is null or e.headers @> s.required_headers)
$$;

-- Every event with its state per handler, for people with psql.
create view event_states as
select e.seq, e.id, e.type, e.aggregate_type, e.aggregate_id, e.occurred_at,
       s.handler, s.partition, d.key,
       coalesce(d.state::text,
                case when pg_visible_in_snapshot(e.tx, s.snapshot)
                       or e.seq <@ s.done
                       or (s.window_snapshot is not null and e.seq <= s.window_seq
                           and pg_visible_in_snapshot(e.tx, s.window_snapshot))
                     then 'passed' else 'pending' end) as state,
       d.attempts, d.first_attempt_at, d.due_at, d.reason, d.status, d.detail, d.handled_at, d.replay
  from events e
 cross join subscriptions s
  left join deliveries d on d.subscription = s.id and d.seq = e.seq
 where wants(s, e)
   -- Of a partitioned handler, only the partition that has the event, or the first while none has it.
   and (s.partitions = 1 or d.seq is not null or (s.partition = 0 and not exists (
        select 1 from deliveries o join subscriptions p on p.id = o.subscription
         where p.handler = s.handler and o.seq = e.seq)));
comment on view event_states is 'Per event and handler: pending, delivered, retrying, waiting, dead, discarded, or passed (read, with no row kept: record = "failures", from before the handler began, or skipped by a person).';

-- The ordering key of an event for a handler: its aggregate, a header, or a value in the payload. Null: in no order with anything.
create function ordering_key(aggregate_type text, aggregate_id text, headers jsonb, payload json, source text, path text[])
    returns text language sql immutable parallel safe as $$
    select case source
           when 'aggregate' then coalesce(aggregate_type, '') || '/' || aggregate_id
           when 'header' then headers ->> path[1]
           when 'payload' then payload #>> path
           end
$$;

-- Which partition of a handler has an event. hashtextextended is what hash partitioning uses, so it survives upgrades.
create function partition_of(key text, seq bigint, partitions integer) returns integer
    language sql immutable parallel safe as $$
    select case when partitions = 1 then 0
                else ((hashtextextended(coalesce(key, seq::text), 0) & 9223372036854775807) % partitions)::integer end
$$;

-- The sequence as it stands now, not as a snapshot sees it: 0 before the first event.
create function last_seq() returns bigint
    language plpgsql volatile as $$
begin
    return (select case when is_called then last_value else 0 end from events_seq_seq);
end $$;
