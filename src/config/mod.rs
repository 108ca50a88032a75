//! Configuration: makes a checked `Config` of TOML and environment, or reports every mistake at once. Does not know the kinds of handlers:
//! the settings of a kind stay a raw table until the kind reads them.
//!
//! In the order of reading: `load` finds the text, `resolve` fills in the environment and files, `check` and `handler` make the
//! `Config` from the declarations in `fields`; `reference`, `schema` and `show` print it for operators and editors.

mod adopt;
mod alerts;
mod check;
mod compare;
mod console;
mod contracts;
mod environment;
mod erasure;
mod feed;
mod fields;
mod handler;
mod hub;
mod load;
mod overrides;
mod projections;
mod public_fields;
mod rate;
mod reference;
mod resolve;
mod rules;
mod schema;
mod server_tls;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::contracts::Pins;
use crate::domain::alerts::{AlertPolicy, Severity};
use crate::domain::{
    Adoption, CircuitPolicy, EventFilter, OnBadDestination, OnDeadLetter, Ordering, RateLimit, Record, RetryPolicy, TableName,
};
use crate::settings::Secret;

pub use compare::{Difference, compare};
pub use console::{Console, ConsoleAddress, ConsoleProxy, ConsoleToken, TrustedPeer};
pub use contracts::Contracts;
#[cfg(test)]
pub(crate) use environment::FakeEnvironment;
pub use environment::{Environment, ProcessEnvironment};
pub use erasure::Erasure;
pub use feed::FEED;
pub use fields::{CHANNEL_COMMON, COMMON, KindFields, Kinds};
pub use handler::parse_ordering_key;
pub use hub::Hub;
pub use load::{ConfigError, Draft, load, load_database, parse, read, read_with};
pub use overrides::Overrides;
pub use projections::{PROJECTION_KIND, ProjectionConfig, is_qualified, projection_handler};
pub use reference::{REFERENCE, describe_fields};
pub use rules::check_name as check_handler_name;
pub use schema::schema;
pub use show::{masked_url, show};

/// The configuration of the daemon. A value exists only after the check.
#[derive(Debug, Clone)]
pub struct Config {
    pub database: Database,
    pub outbox: Outbox,
    pub relay: Relay,
    pub http: Http,
    pub log: Log,
    pub alerts: Alerts,
    pub contracts: Contracts,
    pub feed: Feed,
    pub hub: Hub,
    pub erasure: Erasure,
    pub console: Console,
    /// `[[clients]]`
    pub clients: Vec<ClientConfig>,
    pub handlers: Vec<HandlerConfig>,
    /// `[[adopt]]`; `outboxd adopt` activates the entries, a relay never does.
    pub adopt: Vec<Adoption>,
}

/// `[database]`
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// `postgres://user:password@host:port/database?sslmode=...`
    pub url: Secret,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
    /// Start dispatching on a timeline other than the stored one (after a failover, in a clone).
    pub follow_new_timeline: bool,
}

impl Config {
    /// The feed as a relay serves it, beside the handlers; `None`: there is no feed.
    pub fn feed_handler(&self) -> Option<HandlerConfig> {
        self.feed.as_handler(handler::default_handler())
    }
}

/// `[outbox]`
#[derive(Debug, Clone, PartialEq)]
pub struct Outbox {
    /// Schema that holds the outbox; letters, digits and underscores.
    pub schema: String,
    pub max_payload: u64,
    /// Apply missing migrations at the start of `run`.
    pub migrate: bool,
    /// How long finished events stay; zero: for ever.
    pub retention: Duration,
    pub retention_interval: Duration,
    /// Events removed per statement.
    pub retention_chunk: u32,
    /// How long the marks of receivers are kept; zero: for ever.
    pub inbox_retention: Duration,
}

/// `[relay]`
#[derive(Debug, Clone, PartialEq)]
pub struct Relay {
    /// Name of this deployment in metrics and logs.
    pub name: String,
    pub wake_up: WakeUp,
    /// Pause between reads while events flow.
    pub poll_interval: Duration,
    /// Maximum pause between reads while there are no events and no wake-ups.
    pub idle_poll_interval: Duration,
    /// Time without events after which the relay sleeps.
    pub linger: Duration,
    pub lease: Duration,
    pub flush_interval: Duration,
    /// How long a stop waits for deliveries in flight.
    pub drain_timeout: Duration,
    /// Maximum bytes of events in memory, over all handlers.
    pub memory: u64,
    /// Dispatch only events that the server has flushed.
    pub durability_gate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeUp {
    Listen,
    Poll,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Address of `/metrics`, `/healthz` and `/readyz`; `None`: not served.
    pub listen: Option<SocketAddr>,
    /// Time without a successful read after which the relay is not ready.
    pub stall_after: Duration,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// A `tracing` filter, for example `info` or `outboxd=debug`.
    pub filter: String,
}

pub use crate::telemetry::LogFormat;

/// `[alerts]`
#[derive(Debug, Clone)]
pub struct Alerts {
    pub enabled: bool,
    /// Pause between two evaluations.
    pub interval: Duration,
    pub policy: AlertPolicy,
    /// Include the payload of the example event in messages.
    pub include_payload: bool,
    /// A page for operators; an http or https URL.
    pub external_url: Option<String>,
    /// An http or https URL.
    pub heartbeat_url: Option<Secret>,
    pub heartbeat_interval: Duration,
    pub channels: Vec<ChannelConfig>,
}

/// `[feed]`
#[derive(Debug, Clone, PartialEq)]
pub struct Feed {
    /// Globs over the event types of the feed. Empty: there is no feed.
    pub events: Vec<String>,
    /// Where a new feed starts.
    pub start: Start,
    /// The address; `None`: this instance assigns places, and another instance serves the feed.
    pub listen: Option<SocketAddr>,
    /// Certificate chain of the listener, PEM; `None`: HTTP in the clear.
    pub certificate: Option<String>,
    /// Its key, PEM.
    pub certificate_key: Option<Secret>,
    /// Source of the CloudEvents, a URI reference.
    pub source: String,
    /// Maximum time that a request may wait for an event.
    pub max_wait: Duration,
    /// Pause between two comments on a stream without events.
    pub heartbeat: Duration,
    pub max_connections: usize,
    /// Bytes of events to keep in memory for clients at the end of the feed.
    pub memory: u64,
    /// Origins of pages that may read answers, or `*`.
    pub origins: Vec<String>,
    pub cursors: CursorForm,
    /// What cursors are sealed with: the first seals, each opens. Not empty unless they are plain.
    pub cursor_keys: Vec<Secret>,
    /// The key that signs tickets; `None`: each instance has a key of its own.
    pub ticket_key: Option<Secret>,
}

/// The form of the cursors that clients are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorForm {
    /// Places can be read out of them.
    Plain,
    /// Encrypted and authenticated; plain ones are refused.
    Sealed,
    /// Sealed, and plain ones are still taken.
    Migrating,
}

/// One `[[clients]]` entry: a party that may read a part of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientConfig {
    /// Unique; letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One, or two during a rotation.
    pub tokens: Vec<Token>,
    /// Globs over the types that it may read; empty: every type of the feed.
    pub events: Vec<String>,
    /// The same globs, each with the version that it pins.
    pub pins: Vec<(String, Option<u32>)>,
    /// The versions of the contracts that it reads; `None`: it reads no type with a contract.
    pub contracts: Option<Arc<Pins>>,
    /// Headers that an event must have for this client; texts and booleans.
    pub where_headers: BTreeMap<String, serde_json::Value>,
    /// Handlers whose state of an event the client may ask for.
    pub handlers: Vec<String>,
    /// Names under which it may leave its cursor to the server.
    pub cursors: Vec<String>,
    pub max_connections: usize,
    /// Maximum rate of requests; `None`: no limit.
    pub rate: Option<RateLimit>,
}

/// The credentials of a client.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    Plain(Secret),
    /// SHA-256 of the token: the file then does not contain the token itself.
    Digest([u8; 32]),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One `[[alerts.channels]]` entry: what every channel has, and the rest for its kind.
#[derive(Clone, PartialEq)]
pub struct ChannelConfig {
    /// Unique; letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub kind: String,
    /// Milder alerts are not sent.
    pub severity: Severity,
    /// Maximum duration of one try.
    pub timeout: Duration,
    /// The settings of the kind, unread; secrets and files are resolved.
    pub settings: toml::Table,
}

impl fmt::Debug for ChannelConfig {
    /// Omits the settings: only the kind knows which of them are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelConfig").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The path of a channel for mistakes, as [`handler_path`] of a handler.
pub fn channel_path(index: usize, name: &str) -> String {
    if rules::is_name(name) { format!("alerts.channels.{name}") } else { format!("alerts.channels #{}", index + 1) }
}

/// One `[[handlers]]` entry: what every handler has, and the rest for its kind.
#[derive(Clone, PartialEq)]
pub struct HandlerConfig {
    /// Unique; letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub kind: String,
    pub filter: EventFilter,
    /// The type globs of the filter, each with the version that it pins.
    pub pins: Vec<(String, Option<u32>)>,
    /// The versions of the contracts that it gets; `None`: it wants no type with a contract.
    pub contracts: Option<Arc<Pins>>,
    pub ordering: Ordering,
    pub partitions: u16,
    pub concurrency: usize,
    /// Maximum rate of attempts, over all partitions; `None`: no limit.
    pub rate: Option<RateLimit>,
    /// Maximum duration of one attempt, enforced by the relay.
    pub timeout: Duration,
    pub retry: RetryPolicy,
    pub circuit: CircuitPolicy,
    pub record: Record,
    pub on_dead_letter: OnDeadLetter,
    pub on_bad_destination: OnBadDestination,
    pub start: Start,
    /// Events per second while the handler reads events from before its start or its rewind; `None`: no limit.
    pub backfill: Option<u32>,
    /// Deliveries (retrying and waiting) above which the handler reads no further.
    pub max_parked: u64,
    /// The settings of the kind, unread; secrets and files are resolved.
    pub settings: toml::Table,
    /// The additional settings of a version of a projection; `None`: a plain handler.
    pub projection: Option<ProjectionConfig>,
}

impl fmt::Debug for HandlerConfig {
    /// Omits the settings: only the kind knows which of them are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerConfig").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The path of an entry for mistakes: its name, or its place in the list if it has no usable name.
pub fn handler_path(index: usize, name: &str) -> String {
    match name.split_once('@') {
        Some((projection, _)) if rules::is_name(projection) => format!("{}.{name}", fields::PROJECTIONS),
        _ if rules::is_name(name) => format!("handlers.{name}"),
        _ => format!("handlers #{}", index + 1),
    }
}

/// The path of an adopted table for mistakes.
pub fn adoption_path(table: &TableName) -> String {
    format!("{}.{table}", fields::ADOPT)
}

/// Where a new handler starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the beginning if it is among the first handlers of this outbox, now if it is added later.
    Auto,
    Beginning,
    Now,
}
