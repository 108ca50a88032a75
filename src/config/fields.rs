//! Every setting that does not belong to a kind of handler: name, type, default and help, declared once.
//! The check, the JSON Schema, `config show` and the test of the reference read these lists.

use toml::Value;

pub use super::projections::PROJECTION;
pub use super::public_fields::{CLIENT, CONSOLE_TOKEN, CONTRACT, CONTRACT_VERSION};
use super::public_fields::{CONSOLE, CONTRACTS, ERASURE, FEED, HUB};
use crate::settings::FieldType as T;
use crate::settings::{Field, FieldType};

/// The settings of a kind by its name; `None` if there is no such kind.
pub type KindFields = fn(&str) -> Option<&'static [Field]>;

/// The kinds of the entries in lists. The caller supplies them, because this layer does not know kinds.
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
    Field::table("database", DATABASE, "The Postgres server that holds the outbox and all state of the relay."),
    Field::table("outbox", OUTBOX, "The outbox: its schema, and how long handled events stay."),
    Field::table("relay", RELAY, "The relay: reading, sharing of work between instances, stopping."),
    Field::table("http", HTTP, "Metrics and health."),
    Field::table("log", LOG, "Logs, on standard error."),
    Field::table("alerts", ALERTS, "When an alert fires, and where it is sent. Without a channel alerts are lines in the log."),
    Field::table(
        "contracts",
        CONTRACTS,
        "Contracts: versions of public events. Without a folder every event is sent as it was recorded.",
    ),
    Field::table("feed", FEED, "The feed: events that clients read themselves, in one order that never changes."),
    Field::table("hub", HUB, "The same feed for clients of SignalR."),
    Field::table("erasure", ERASURE, "Persons that are forgotten: `outboxd forget`."),
    Field::table("console", CONSOLE, "The console and the API for operators, at an address of their own."),
];

const DATABASE: &[Field] = &[
    Field::new(
        "url",
        T::Secret,
        "",
        "Address: postgres://user:password@host:port/database?sslmode=... Absent: the environment variable DATABASE_URL.",
    ),
    Field::new(
        "max_connections",
        T::Integer(2, 1000),
        "20",
        "Maximum number of connections for reading, recording and maintenance. The relay uses up to three more for leases and \
        wake-ups, and one for each running function.",
    ),
    Field::new("connect_timeout", T::Duration, "5s", "Maximum wait for a connection."),
    Field::new("statement_timeout", T::Duration, "30s", "Maximum duration of one statement; \"0s\": no limit."),
    Field::new("lock_timeout", T::Duration, "5s", "Maximum wait of a statement for a lock; \"0s\": no limit."),
    Field::new(
        "on_new_timeline",
        T::Choice(&["refuse", "follow"]),
        "refuse",
        "If the server is on another timeline than the stored one (after a failover, in a clone): refuse to dispatch, or follow \
        it.",
    ),
];

const OUTBOX: &[Field] = &[
    Field::new("schema", T::Text, "outbox", "Schema of the outbox; lower-case letters, digits and underscores."),
    Field::new("max_payload", T::Bytes, "1MiB", "Largest payload; a larger one fails in the producer's own transaction."),
    Field::new("migrate", T::Boolean, "true", "Apply missing migrations at the start of `run`."),
    Field::new(
        "retention",
        T::Duration,
        "7d",
        "How long events stay after every handler is done with them; \"0s\": for ever. Events of streams always stay.",
    ),
    Field::new("retention_interval", T::Duration, "1m", "Pause between two runs of the retention."),
    Field::new("retention_chunk", T::Integer(1, 100_000), "5000", "Events removed per statement."),
    Field::new(
        "inbox_retention",
        T::Duration,
        "90d",
        "How long the inbox keeps the marks of receivers; must be longer than the oldest event that may still be delivered. \
        \"0s\": for ever.",
    ),
];

const RELAY: &[Field] = &[
    Field::new("name", T::Text, "outboxd", "Name of this deployment in metrics and logs."),
    Field::new(
        "wake_up",
        T::Choice(&["listen", "poll"]),
        "listen",
        "How a sleeping relay learns of new events: the server notifies it (listen), or it reads every idle_poll_interval (poll).",
    ),
    Field::new("poll_interval", T::Duration, "2ms", "Pause between reads while events flow."),
    Field::new("idle_poll_interval", T::Duration, "250ms", "Maximum pause between reads while there are no events."),
    Field::new("linger", T::Duration, "100ms", "Time without events after which the relay sleeps."),
    Field::new(
        "lease",
        T::Duration,
        "15s",
        "Time after which another instance may acquire the subscription of an instance that does not renew its lease.",
    ),
    Field::new(
        "flush_interval",
        T::Duration,
        "50ms",
        "Maximum delay of recording an outcome; bounds the duplicates after a crash.",
    ),
    Field::new("drain_timeout", T::Duration, "30s", "How long a stop waits for deliveries in flight."),
    Field::new("memory", T::Bytes, "64MiB", "Maximum bytes of events in memory, over all handlers."),
    Field::new(
        "durability_gate",
        T::Boolean,
        "true",
        "Dispatch only events that the server has flushed to disk; needed if producers use synchronous_commit = off.",
    ),
];

const HTTP: &[Field] = &[
    Field::new("listen", T::Text, "127.0.0.1:9187", "Address of /metrics, /healthz and /readyz; \"\": not served."),
    Field::new("stall_after", T::Duration, "60s", "Time without a successful read after which the relay is not ready."),
];

const LOG: &[Field] = &[
    Field::new("format", T::Choice(&["text", "json"]), "text", "One line of text, or one JSON object, per entry."),
    Field::new(
        "filter",
        T::Text,
        "info",
        "Filter of the log: a level, or targets with levels such as \"info,outboxd::relay=debug\".",
    ),
];

const ALERTS: &[Field] = &[
    Field::new("enabled", T::Boolean, "true", "Evaluate alerts; one instance at a time does."),
    Field::new("interval", T::Duration, "10s", "Pause between two evaluations."),
    Field::new("group_wait", T::Duration, "10s", "How long a change waits for others, so that one message has all of them."),
    Field::new("repeat_interval", T::Duration, "4h", "Time after which an alert that still fires is sent again; \"0s\": never."),
    Field::new(
        "dead_letters_factor",
        T::Integer(2, 1000),
        "10",
        "The first dead letter is sent at once; the alert is sent again when there are this many times as many.",
    ),
    Field::new("dead_letters_again", T::Duration, "1d", "Time after which dead letters that remain are sent again; \"0s\": never."),
    Field::new(
        "backlog_age",
        T::Duration,
        "5m",
        "Age of the oldest unfinished event above which the alert fires; it is over below half of this age.",
    ),
    Field::new("backlog_for", T::Duration, "2m", "How long the age must be above the threshold, or below half of it."),
    Field::new("backlog_critical", T::Duration, "30m", "Age of the oldest unfinished event above which the alert is critical."),
    Field::new(
        "circuit_open_for",
        T::Duration,
        "5m",
        "How long a circuit may be open. If a fault of the handler opened it, the alert fires at once.",
    ),
    Field::new(
        "cursor_lag",
        T::Duration,
        "1d",
        "Age of the oldest event that a client with a cursor at the server has not read; well below the retention. \"0s\": never told.",
    ),
    Field::new("paused_for", T::Duration, "4h", "How long a handler may be paused."),
    Field::new("not_polling_for", T::Duration, "1m", "How long a handler may be without a relay."),
    Field::new("database_for", T::Duration, "1m", "How long the database may be unusable."),
    Field::new(
        "channel_failures",
        T::Integer(1, 100),
        "3",
        "Consecutive failures of a channel after which the other channels report it.",
    ),
    Field::new(
        "include_payload",
        T::Boolean,
        "false",
        "Include the payload of the example event in messages, at most its first 2 KiB.",
    ),
    Field::new("external_url", T::Text, "", "Address of a page for operators; messages link to it."),
    Field::new(
        "heartbeat_url",
        T::Secret,
        "",
        "URL that the relay requests while all is well; a service that misses these requests alerts you.",
    ),
    Field::new("heartbeat_interval", T::Duration, "1m", "Pause between two requests of heartbeat_url."),
];

/// The required settings of every `[[alerts.channels]]` entry.
pub const CHANNEL_IDENTITY: &[Field] = &[
    Field::required("name", T::Text, "Name of the channel: letters, digits, \"-\", \"_\" and \".\"."),
    Field::required("kind", T::Text, "The kind of the channel, for example \"slack\"."),
];

/// The optional settings of every `[[alerts.channels]]` entry of any kind.
pub const CHANNEL_COMMON: &[Field] = &[
    Field::new(
        "severity",
        T::Choice(&["info", "warning", "critical"]),
        "info",
        "Lowest severity of the alerts that the channel receives.",
    ),
    Field::new("timeout", T::Duration, "10s", "Maximum duration of one try."),
];

/// The required settings of every `[[handlers]]` entry.
pub const IDENTITY: &[Field] = &[
    Field::required("name", T::Text, "Name of the handler, also in the database: letters, digits, \"-\", \"_\" and \".\"."),
    Field::required("kind", T::Text, "The kind of the handler, for example \"webhook\"."),
];

/// Filter by type, the same for handlers and projections.
pub const EVENTS: Field = Field::new(
    "events",
    T::TextList,
    "",
    "Event types to deliver; \"*\" stands for any characters, and \"order.placed@1\" pins the version of a contract. \
        Absent: every type.",
);
/// Filter by the type of the aggregate.
pub const AGGREGATE_TYPES: Field = Field::new(
    "aggregate_types",
    T::TextList,
    "",
    "Aggregate types to deliver. Absent: every one, and events without an aggregate.",
);

/// The optional settings of every `[[handlers]]` entry of any kind.
pub const COMMON: &[Field] = &[
    EVENTS,
    AGGREGATE_TYPES,
    Field::new(
        "where_headers",
        T::ScalarMap,
        "",
        "Headers that an event must have with exactly this text, number or boolean: \"2\" is not 2.",
    ),
    Field::new("ordering", T::Choice(&["key", "none"]), "key", "Deliver the events of a key one after the other, or in no order."),
    Field::new("key", T::Text, "aggregate", "The ordering key: \"aggregate\", \"header:<name>\" or \"payload:<a.b.c>\"."),
    Field::new(
        "partitions",
        T::Integer(1, 1_024),
        "1",
        "Number of partitions by a hash of the key; different instances can serve them.",
    ),
    Field::new("concurrency", T::Integer(1, 1024), "16", "Maximum number of deliveries in flight."),
    Field::new(
        "rate",
        T::Text,
        "",
        "Maximum rate of attempts, per s, min or h, over all partitions; retries and probes count. Absent: no limit.",
    ),
    Field::new(
        "burst",
        T::Integer(1, 1_000_000),
        "",
        "With a rate: attempts that may start at once after a pause. Absent: one second's worth, at least one per partition.",
    ),
    Field::new("timeout", T::Duration, "15s", "Maximum duration of one attempt."),
    Field::new(
        "record",
        T::Choice(&["all", "failures"]),
        "all",
        "Record every delivery, or only those that did not succeed at the first attempt.",
    ),
    Field::new(
        "on_dead_letter",
        T::Choice(&["continue", "hold_key"]),
        "continue",
        "After a dead letter, deliver later events of its key (continue), or hold them until an operator decides (hold_key).",
    ),
    Field::new(
        "on_bad_destination",
        T::Choice(&["auto", "hold", "dead_letter"]),
        "auto",
        "Policy, after max_attempts probes, for the events of one routing key, subject, topic or stream that accepts none \
        although others do: hold them, or make them dead letters; auto: hold if it is full, dead letters if it is unknown or \
        forbidden.",
    ),
    Field::new(
        "start",
        T::Choice(&["auto", "beginning", "now"]),
        "auto",
        "Where a new handler starts; auto: at the beginning of a new outbox, now in an existing one.",
    ),
    Field::new(
        "backfill",
        T::Text,
        "",
        "Events per second while the handler reads events from before its start or its rewind. Absent: no limit.",
    ),
    Field::new(
        "max_parked",
        T::Integer(1, 10_000_000),
        "10000",
        "Number of deliveries retrying or waiting above which the handler reads no further events.",
    ),
    Field::table("retry", RETRY, "When and how often a failed delivery is retried."),
    Field::table("circuit", CIRCUIT, "When the whole handler is held because its receiver does not work."),
];

const RETRY: &[Field] = &[
    Field::new("base", T::Duration, "5s", "Delay after the first failed attempt."),
    Field::new("factor", T::Number(1.0, 1000.0), "3", "Factor by which the delay grows with every further attempt."),
    Field::new("max_delay", T::Duration, "6h", "Maximum delay, jitter included."),
    Field::new(
        "jitter",
        T::Number(0.0, 0.99),
        "0.2",
        "Share of the delay by which it varies, so that retries do not all start at once.",
    ),
    Field::new("schedule", T::DurationList, "", "List of delays, instead of base, factor and max_delay; the last one repeats."),
    Field::new("max_attempts", T::Integer(1, 1000), "12", "Attempts after which an event becomes a dead letter."),
    Field::new(
        "max_age",
        T::Duration,
        "",
        "Time since the first attempt after which there is no further attempt. Absent: no limit.",
    ),
];

const CIRCUIT: &[Field] = &[
    Field::new("failure_rate", T::Number(0.01, 1.0), "0.5", "Share of failed attempts in the window that opens the circuit."),
    // The breaker remembers a thousand attempts: with a higher minimum it could never open.
    Field::new("minimum", T::Integer(1, 1000), "20", "Minimum number of attempts in the window for a decision."),
    Field::new("window", T::Duration, "1m", "Time over which the failure rate is measured."),
    Field::new("first_probe", T::Duration, "30s", "Wait before the first probe; doubles with every failed one."),
    Field::new("max_probe", T::Duration, "10m", "Maximum wait before a probe."),
];

/// The settings of an `[[adopt]]` entry.
pub const ADOPTION: &[Field] = &[
    Field::required("table", T::Text, "The table whose inserted rows become events, with its schema, unquoted."),
    Field::required(
        "shape",
        T::Choice(&["debezium", "open-outbox", "custom"]),
        "The columns of the table; every setting below replaces one of them, and a custom table needs at least type and payload.",
    ),
    Field::new(
        "copy",
        T::Choice(&["statement", "commit"]),
        "statement",
        "When a row becomes an event: in its statement, or at the commit, for applications that insert the row before they lock \
        the aggregate.",
    ),
    Field::new(
        "id",
        T::Text,
        "",
        "Column with the id. An id that is not a UUID is converted to one, always the same for the same row.",
    ),
    Field::new("type", T::Text, "", "Column with the type of the event, or \"constant:<text>\"."),
    Field::new("aggregate_type", T::Text, "", "Column with the type of the aggregate, or \"constant:<text>\"."),
    Field::new("aggregate_id", T::Text, "", "Column with the id of the aggregate; events of one aggregate stay in order."),
    Field::new("aggregate_version", T::Text, "", "Column with the version of the aggregate, a whole number."),
    Field::new(
        "payload",
        T::Text,
        "",
        "Column with the payload; a value that is not a JSON object is wrapped as {\"value\": ...}.",
    ),
    Field::new("headers", T::Text, "", "Column with a JSON object of headers."),
    Field::new("extra_headers", T::TextMap, "", "Further headers, each from a column or \"constant:<text>\"."),
    Field::new(
        "occurred_at",
        T::Text,
        "",
        "Column with the time: a timestamp (without a zone: UTC) or milliseconds since 1970. Absent: the time of the copy.",
    ),
    Field::new("trace_context", T::Text, "", "Column with name=value lines; traceparent becomes a header."),
    Field::new(
        "existing",
        T::Text,
        "",
        "SQL condition for the rows that `outboxd adopt --existing` copies. Absent: all rows; with open-outbox the undelivered \
        ones.",
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
