//! Every setting that is not a handler kind's own: name, type, default and help, declared once.
//! The check, the JSON Schema, `config show` and the test of the reference read these lists.

use toml::Value;

pub use super::projections::PROJECTION;
pub use super::public_fields::{CLIENT, CONSOLE_TOKEN, CONTRACT, CONTRACT_VERSION};
use super::public_fields::{CONSOLE, CONTRACTS, ERASURE, FEED, HUB};
use crate::settings::FieldType as T;
use crate::settings::{Field, FieldType};

/// The settings of a kind by its name; `None` if there is no such kind.
pub type KindFields = fn(&str) -> Option<&'static [Field]>;

/// The kinds that entries of lists have. The caller knows them, this layer does not.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    /// Of `[[handlers]]`.
    pub handlers: KindFields,
    /// Of `[[alerts.channels]]`.
    pub channels: KindFields,
}

/// The key of the list of handlers.
pub const HANDLERS: &str = "handlers";

/// The key of the list of channels, within `[alerts]`.
pub const CHANNELS: &str = "channels";

/// The key of the list of adopted tables.
pub const ADOPT: &str = "adopt";

/// The key of the list of clients.
pub const CLIENTS: &str = "clients";

/// The key of the list of tokens, within `[console]`.
pub const TOKENS: &str = "tokens";

/// The key of the list of projections.
pub const PROJECTIONS: &str = "projections";

/// The tables of the file, `[[handlers]]`, `[[projections]]`, `[[adopt]]`, `[[clients]]`, `[[alerts.channels]]` and `[[console.tokens]]`
/// aside.
pub const SECTIONS: &[Field] = &[
    Field::table("database", DATABASE, "Postgres, which holds the outbox and everything the relay knows."),
    Field::table("outbox", OUTBOX, "The outbox itself: where it lives and how long handled events stay."),
    Field::table("relay", RELAY, "The relay: how it reads, how it shares work, how it stops."),
    Field::table("http", HTTP, "Metrics and health."),
    Field::table("log", LOG, "Logs, on standard error."),
    Field::table("alerts", ALERTS, "When a human is called. Without a channel alerts are lines in the log."),
    Field::table("contracts", CONTRACTS, "Public events in versions; without a folder every event goes out as it was recorded."),
    Field::table("feed", FEED, "The feed: events that clients read by themselves, in one order that never changes."),
    Field::table("hub", HUB, "The same feed for clients of SignalR."),
    Field::table("erasure", ERASURE, "Persons that are forgotten: `outboxd forget`."),
    Field::table("console", CONSOLE, "Pages and an API for operators, at an address of their own."),
];

const DATABASE: &[Field] = &[
    Field::new(
        "url",
        T::Secret,
        "",
        "Address: postgres://user:password@host:port/database?sslmode=... When absent, the environment variable DATABASE_URL.",
    ),
    Field::new(
        "max_connections",
        T::Integer(2, 1000),
        "20",
        "Connections at most for reading, recording and looking after the outbox; up to three for leases and wake-ups, and one for each \
         function that runs, come on top.",
    ),
    Field::new("connect_timeout", T::Duration, "5s", "Longest wait for a connection."),
    Field::new("statement_timeout", T::Duration, "30s", "Longest that one statement may take; \"0s\": no bound."),
    Field::new("lock_timeout", T::Duration, "5s", "Longest that a statement may wait for a lock; \"0s\": no bound."),
    Field::new(
        "on_new_timeline",
        T::Choice(&["refuse", "follow"]),
        "refuse",
        "When the server is on another timeline than the stored one (after a failover, in a clone): refuse to dispatch, or follow.",
    ),
];

const OUTBOX: &[Field] = &[
    Field::new("schema", T::Text, "outbox", "Schema of the outbox; lower-case letters, digits and underscores."),
    Field::new("max_payload", T::Bytes, "1MiB", "Payloads above this are refused in the producer's own transaction."),
    Field::new("migrate", T::Boolean, "true", "Apply missing migrations at the start of `run`."),
    Field::new(
        "retention",
        T::Duration,
        "7d",
        "How long events stay after every handler is done with them; \"0s\": for ever. Events of streams always stay.",
    ),
    Field::new("retention_interval", T::Duration, "1m", "Pause between two sweeps of the retention."),
    Field::new("retention_chunk", T::Integer(1, 100_000), "5000", "Events removed per statement."),
    Field::new(
        "inbox_retention",
        T::Duration,
        "90d",
        "How long the marks of receivers in the inbox are kept; longer than the oldest event that anybody may still deliver. \"0s\" keeps \
         them for ever.",
    ),
];

const RELAY: &[Field] = &[
    Field::new("name", T::Text, "outboxd", "Names this deployment in metrics and logs."),
    Field::new(
        "wake_up",
        T::Choice(&["listen", "poll"]),
        "listen",
        "How a sleeping relay learns of events: the server tells it, or it looks every idle_poll_interval.",
    ),
    Field::new("poll_interval", T::Duration, "2ms", "Pause between reads while events flow."),
    Field::new("idle_poll_interval", T::Duration, "250ms", "Longest pause between reads while nothing happens."),
    Field::new("linger", T::Duration, "100ms", "How long without events until the relay goes to sleep."),
    Field::new("lease", T::Duration, "15s", "How long a subscription stays owned by an instance that has fallen silent."),
    Field::new(
        "flush_interval",
        T::Duration,
        "50ms",
        "Longest that an outcome waits to be recorded; bounds the duplicates after a crash.",
    ),
    Field::new("drain_timeout", T::Duration, "30s", "How long a stop waits for what is in flight."),
    Field::new("memory", T::Bytes, "64MiB", "Bytes of events held at once, over all handlers."),
    Field::new(
        "durability_gate",
        T::Boolean,
        "true",
        "Dispatch only what the server has flushed to disk; matters where producers use synchronous_commit = off.",
    ),
];

const HTTP: &[Field] = &[
    Field::new("listen", T::Text, "127.0.0.1:9187", "Address of /metrics, /healthz and /readyz; \"\": not served."),
    Field::new("stall_after", T::Duration, "60s", "Time without a successful read after which the relay is not ready."),
];

const LOG: &[Field] = &[
    Field::new("format", T::Choice(&["text", "json"]), "text", "One line of text, or one JSON object, per entry."),
    Field::new("filter", T::Text, "info", "What is logged: a level, or targets with levels such as \"info,outboxd::relay=debug\"."),
];

const ALERTS: &[Field] = &[
    Field::new("enabled", T::Boolean, "true", "Look for what a human must know of; one instance at a time does."),
    Field::new("interval", T::Duration, "10s", "Pause between two looks."),
    Field::new("group_wait", T::Duration, "10s", "How long a change waits for others, to be told together."),
    Field::new("repeat_interval", T::Duration, "4h", "Time after which what still is gets told again; \"0s\": never."),
    Field::new(
        "dead_letters_factor",
        T::Integer(2, 1000),
        "10",
        "Dead letters are told at once, and again when they are this many times as many.",
    ),
    Field::new(
        "dead_letters_again",
        T::Duration,
        "1d",
        "Time after which dead letters that are still there are news again; \"0s\": never.",
    ),
    Field::new(
        "backlog_age",
        T::Duration,
        "5m",
        "Age of the oldest unfinished event that is too old; it is over below half of it.",
    ),
    Field::new("backlog_for", T::Duration, "2m", "How long it must be so, or be over."),
    Field::new("backlog_critical", T::Duration, "30m", "Age of the oldest unfinished event that is critical."),
    Field::new(
        "circuit_open_for",
        T::Duration,
        "5m",
        "How long a circuit may be open; one that a fault of the handler has opened is told at once.",
    ),
    Field::new(
        "cursor_lag",
        T::Duration,
        "1d",
        "Age of the oldest event that a client with a cursor at the server has not read; well below the retention. \"0s\": never told.",
    ),
    Field::new("paused_for", T::Duration, "4h", "How long a handler may be paused."),
    Field::new("not_polling_for", T::Duration, "1m", "How long a handler may be without a relay that reads for it."),
    Field::new("database_for", T::Duration, "1m", "How long the database may be unusable."),
    Field::new(
        "channel_failures",
        T::Integer(1, 100),
        "3",
        "Failures in a row after which the other channels are told of a channel.",
    ),
    Field::new("include_payload", T::Boolean, "false", "Put the payload of the sample event into what is sent, cut to 2 KiB."),
    Field::new("external_url", T::Text, "", "Where people look, linked in what is sent."),
    Field::new("heartbeat_url", T::Secret, "", "URL to get while all is well, for a service that calls when it stops coming."),
    Field::new("heartbeat_interval", T::Duration, "1m", "Pause between two calls of heartbeat_url."),
];

/// What every `[[alerts.channels]]` entry must say.
pub const CHANNEL_IDENTITY: &[Field] = &[
    Field::required("name", T::Text, "Names the channel: letters, digits, \"-\", \"_\" and \".\"."),
    Field::required("kind", T::Text, "What the channel is, for example \"slack\"."),
];

/// What every `[[alerts.channels]]` entry may say, whatever its kind.
pub const CHANNEL_COMMON: &[Field] = &[
    Field::new("severity", T::Choice(&["info", "warning", "critical"]), "info", "The mildest alerts that it is told of."),
    Field::new("timeout", T::Duration, "10s", "Longest that one try may take."),
];

/// What every `[[handlers]]` entry must say.
pub const IDENTITY: &[Field] = &[
    Field::required(
        "name",
        T::Text,
        "Names the handler everywhere, also in the database: letters, digits, \"-\", \"_\" and \".\".",
    ),
    Field::required("kind", T::Text, "What it is, for example \"webhook\"."),
];

/// What every `[[handlers]]` entry may say, whatever its kind.
pub const COMMON: &[Field] = &[
    Field::new(
        "events",
        T::TextList,
        "",
        "Event types it wants; \"*\" stands for any characters, and \"order.placed@1\" pins the version of a contract. Absent: every type.",
    ),
    Field::new("aggregate_types", T::TextList, "", "Aggregate types it wants. Absent: every one, and events without an aggregate."),
    Field::new(
        "where_headers",
        T::ScalarMap,
        "",
        "Event headers that must be there with exactly this text, number or boolean: \"2\" is not 2.",
    ),
    Field::new("ordering", T::Choice(&["key", "none"]), "key", "One event after the other per key, or in no order."),
    Field::new("key", T::Text, "aggregate", "What keeps the order: \"aggregate\", \"header:<name>\" or \"payload:<a.b.c>\"."),
    Field::new("partitions", T::Integer(1, 1_024), "1", "Parts that instances can share between them, by a hash of the key."),
    Field::new("concurrency", T::Integer(1, 1024), "16", "Deliveries in flight at once."),
    Field::new(
        "rate",
        T::Text,
        "",
        "The most attempts that the receiver gets, per s, min or h, over all partitions; retries and probes count. Absent: no bound.",
    ),
    Field::new(
        "burst",
        T::Integer(1, 1_000_000),
        "",
        "With a rate: attempts that may begin at once after a time without any. Absent: one second's worth, at least one per partition.",
    ),
    Field::new("timeout", T::Duration, "15s", "Longest that one attempt may take."),
    Field::new(
        "record",
        T::Choice(&["all", "failures"]),
        "all",
        "Record every delivery, or only those that did not succeed at once.",
    ),
    Field::new(
        "on_dead_letter",
        T::Choice(&["continue", "hold_key"]),
        "continue",
        "After a dead letter, later events of its key go on, or wait until a person decides.",
    ),
    Field::new(
        "on_bad_destination",
        T::Choice(&["auto", "hold", "dead_letter"]),
        "auto",
        "What becomes of the events of one routing key, subject, topic or stream that takes none of them although others do, after \
         max_attempts probes: held, or dead letters; auto: held if it is full, dead letters if it is unknown or forbidden.",
    ),
    Field::new(
        "start",
        T::Choice(&["auto", "beginning", "now"]),
        "auto",
        "Where a handler that is new to the database begins; auto: at the beginning of a new outbox, now in an old one.",
    ),
    Field::new(
        "backfill",
        T::Text,
        "",
        "Events per second at which it reads what was there before it began or was rewound. Absent: as fast as it can.",
    ),
    Field::new("max_parked", T::Integer(1, 10_000_000), "10000", "Deliveries retrying or waiting above which it reads no further."),
    Field::table("retry", RETRY, "When and how often a failed delivery is tried again."),
    Field::table("circuit", CIRCUIT, "When the whole handler is held because its receiver cannot work."),
];

const RETRY: &[Field] = &[
    Field::new("base", T::Duration, "5s", "Delay after the first failed attempt."),
    Field::new("factor", T::Number(1.0, 1000.0), "3", "By which the delay grows with every further one."),
    Field::new("max_delay", T::Duration, "6h", "Longest delay; the jitter never exceeds it."),
    Field::new(
        "jitter",
        T::Number(0.0, 0.99),
        "0.2",
        "Share of the delay by which it varies, so that retries do not come all at once.",
    ),
    Field::new("schedule", T::DurationList, "", "Delays one by one, in place of base, factor and max_delay; the last one repeats."),
    Field::new("max_attempts", T::Integer(1, 1000), "12", "Attempts in all, then it is a dead letter."),
    Field::new("max_age", T::Duration, "", "Time since the first attempt after which nothing is tried again. Absent: no bound."),
];

const CIRCUIT: &[Field] = &[
    Field::new("failure_rate", T::Number(0.01, 1.0), "0.5", "Share of failed attempts in the window that opens it."),
    // The breaker remembers a thousand attempts: with a higher minimum it could never open.
    Field::new("minimum", T::Integer(1, 1000), "20", "Attempts in the window below which no rate is judged."),
    Field::new("window", T::Duration, "1m", "Time over which the rate is judged."),
    Field::new("first_probe", T::Duration, "30s", "Wait before the first probe; doubles with every failed one."),
    Field::new("max_probe", T::Duration, "10m", "Longest wait before a probe."),
];

/// What an `[[adopt]]` entry may say.
pub const ADOPTION: &[Field] = &[
    Field::required(
        "table",
        T::Text,
        "The table whose inserted rows are events, with its schema; as it is called, without quotes.",
    ),
    Field::required(
        "shape",
        T::Choice(&["debezium", "open-outbox", "custom"]),
        "Which columns it has; every setting below replaces one of them, and a custom table needs at least type and payload.",
    ),
    Field::new(
        "copy",
        T::Choice(&["statement", "commit"]),
        "statement",
        "When a row becomes an event: with its statement, or at the commit, for applications that insert it before they lock what it \
         is about.",
    ),
    Field::new("id", T::Text, "", "Column with the id. What is no UUID is turned into one, the same for the same row."),
    Field::new("type", T::Text, "", "Column with the type of the event, or \"constant:<text>\"."),
    Field::new("aggregate_type", T::Text, "", "Column with what kind of thing it happened to, or \"constant:<text>\"."),
    Field::new("aggregate_id", T::Text, "", "Column with what it happened to; events with the same one stay in order."),
    Field::new("aggregate_version", T::Text, "", "Column with the version of the aggregate, a whole number."),
    Field::new("payload", T::Text, "", "Column with the payload; what is no JSON object is wrapped as {\"value\": ...}."),
    Field::new("headers", T::Text, "", "Column with a JSON object of headers."),
    Field::new("extra_headers", T::TextMap, "", "Further headers, each from a column or \"constant:<text>\"."),
    Field::new(
        "occurred_at",
        T::Text,
        "",
        "Column with the time: a timestamp (without a zone: UTC) or milliseconds since 1970. Absent: the time of the copy.",
    ),
    Field::new("trace_context", T::Text, "", "Column with name=value lines, of which traceparent becomes a header."),
    Field::new(
        "existing",
        T::Text,
        "",
        "Condition in SQL: the rows that `outboxd adopt --existing` copies. Absent: all; of open-outbox those that are not delivered.",
    ),
];

/// The default as a TOML value; `None` if the setting is required or has none.
pub fn default_value(field: &Field) -> Option<Value> {
    let text = field.default.filter(|text| !text.is_empty())?;
    let value = match field.field_type {
        FieldType::Integer(..) => Value::Integer(text.parse().ok()?),
        FieldType::Number(..) => Value::Float(text.parse().ok()?),
        FieldType::Boolean => Value::Boolean(text.parse().ok()?),
        _ => Value::String(text.to_owned()),
    };
    Some(value)
}
