//! Handlers: the code that takes a notification to a receiver, one file or folder per kind.
//!
//! A kind is an entry in `KINDS`: a name, declared settings, an example, a function that builds the handler. Help, reference,
//! schema, check and metrics follow from that list. `deliver` makes one attempt and returns a verdict, never an error. The relay
//! bounds the time of an attempt, keeps one delivery per key in flight and decides on retries; a kind does none of that and never
//! sees the relay's database connection. The rules that all kinds follow:
//!
//! - One shared connection. Deliveries of a handler are pipelined over one connection (`link`). The reconnecting of the client
//!   libraries is switched off where it exists, because it would send again what already has a verdict.
//! - An answer for every event: a confirm with `mandatory`, a PubAck, a delivery report, an entry id, a PUBACK. Nothing counts as
//!   delivered without one, and every wait for one is bounded.
//! - A table from answers to outcomes, `classify.rs` in each kind, pure. An answer that every event would meet is a fault of the
//!   handler; an answer to a property of this one event is permanent; the rest is a retry or back-pressure.
//! - Shared ends. If a connection ends over one of several events, `company` (`nats`, `rabbitmq`, `redis`) and `mqtt/suspects.rs`
//!   find out which one by sending the suspects alone.
//! - Nothing left behind. Dropping a delivery is safe anywhere. Dropping the handler ends its tasks, sockets, threads and
//!   processes.
//!
//! Shared parts: `envelope` (what goes out), `line`, `cloud_event`, `extra_headers`, `template`, `dial`, `tls`, `waits`,
//! `failure`, `redaction`, `cautions`. `tests/it/conformance` goes through `KINDS` with hostile peers and with the real servers.

mod cautions;
mod closure;
#[cfg_attr(not(feature = "brokers"), allow(dead_code))]
mod cloud_event;
#[cfg_attr(not(feature = "brokers"), allow(dead_code))]
mod company;
mod dial;
mod discard;
#[cfg_attr(not(feature = "brokers"), allow(dead_code))] // what a binary without some broker does not use
mod envelope;
mod exec;
#[cfg_attr(not(feature = "brokers"), allow(dead_code))]
mod extra_headers;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "kafka")]
mod kafka;
mod line;
#[cfg_attr(not(feature = "brokers"), allow(dead_code))]
mod link;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
mod projection;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod redaction;
#[cfg(feature = "redis")]
mod redis;
mod sql;
mod stdout;
#[cfg_attr(not(feature = "brokers"), allow(dead_code))]
mod template;
mod tls;
#[cfg_attr(not(feature = "brokers"), allow(dead_code))]
mod waits;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use crate::domain::{Notification, Verdict};
use crate::settings::{Field, Section};

pub use cautions::cautions;
pub use closure::handler_fn;
pub(crate) use cloud_event::CloudEvents;
pub use exec::all_ended;
pub(crate) use failure::root_text;
pub(crate) use projection::{AnyProjection, Projected};
pub use projection::{ProjectedEvent, Projection, ProjectionError, ProjectionSpec};
pub(crate) use redaction::{Redaction, hidden_parts};
pub use sql::SqlFunction;
pub(crate) use tls::{TlsSettings, client_config as tls_config};
pub(crate) use webhook::parse_retry_after;
pub use webhook::{InvalidSecret, Signer, verify};

/// Takes notifications to a receiver. Called concurrently, at most `concurrency` times at once, and per ordering key one
/// notification after the other. Dropping the future must be safe: the relay does so at its timeout.
pub trait Handler: Send + Sync + 'static {
    /// One attempt. The verdict says what came of it; a panic becomes `Retry`.
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict>;

    /// How many notifications one exchange with the receiver can carry; see [`Handler::deliver_all`].
    fn largest_group(&self) -> usize {
        1
    }

    /// How long the first of a group that is not full waits for others.
    fn gather_for(&self) -> Duration {
        Duration::ZERO
    }

    /// One attempt each at several notifications that are to leave at the same moment: no two of one key, and no more than
    /// `largest_group`. The verdicts come in their order, all at once; a panic is the verdict of each.
    fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(join_all(notifications.into_iter().map(|notification| self.deliver(notification))))
    }

    /// The future of `deliver` is ready at once: it computes and never waits. Then no task and no timeout are needed.
    fn is_immediate(&self) -> bool {
        false
    }

    /// The address of this event, where the address of the handler depends on the event. Verdicts that are `of_destination` are about it.
    /// `None`: all events have one address, or this one has none.
    fn destination(&self, _notification: &Notification) -> Option<String> {
        None
    }

    /// Whether the receiver could be reached now, for `check --connect`. Must not deliver anything.
    /// `Ok` is a short text for display, `Err` what is wrong.
    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { Ok("nothing to connect to".to_owned()) })
    }
}

/// The result of building a kind from its settings.
#[derive(Clone)]
pub enum Built {
    /// Called outside any transaction.
    Handler(Arc<dyn Handler>),
    /// Called in the transaction that marks the event handled.
    Function(SqlFunction),
    /// Called in the transaction that moves the position, one event after the other.
    Projection(Box<ProjectionSpec>),
    /// Calls nothing: the relay gives the events their places in the feed.
    Publisher,
}

/// One kind of handler: the only thing to add for a new one.
pub struct Kind {
    /// `kind = "..."` in the configuration.
    pub name: &'static str,
    pub summary: &'static str,
    /// The settings of this kind, beside those every handler has.
    pub fields: &'static [Field],
    /// A complete `[[handlers]]` entry that works as it stands (its secrets and addresses aside).
    pub example: &'static str,
    /// Builds from checked settings. `None`: mistakes were reported to the section.
    pub build: fn(&Section<'_>) -> Option<Built>,
}

/// Every kind this binary has. Help, documentation, configuration check and conformance tests follow from the list.
pub const KINDS: &[Kind] = &[
    webhook::KIND,
    #[cfg(feature = "rabbitmq")]
    rabbitmq::KIND,
    #[cfg(feature = "nats")]
    nats::KIND,
    #[cfg(feature = "kafka")]
    kafka::KIND,
    #[cfg(feature = "redis")]
    redis::KIND,
    #[cfg(feature = "mqtt")]
    mqtt::KIND,
    exec::KIND,
    sql::KIND,
    stdout::KIND,
    discard::KIND,
];

/// Kinds that a binary may lack: each is a cargo feature of its own name, on by default.
pub const OPTIONAL_KINDS: &[&str] = &["rabbitmq", "nats", "kafka", "redis", "mqtt"];

/// The kind with this name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}
