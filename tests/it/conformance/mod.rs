//! What every kind of handler must do, whatever it talks to: the tests go through `KINDS`, so that a new kind is covered before its
//! author has written one. `hostile` needs nothing but the kind's example; `delivery` and `outage` need a counterpart, real where there
//! is one, and a kind without an entry in `counterpart` fails.

mod delivery;
mod hostile;
mod kafka;
#[cfg(feature = "mqtt")]
mod mqtt;
mod nats;
mod neighbours;
mod outage;
mod programs;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod receivers;
mod streams;

use std::io;
use std::path::Path;

use futures_util::future::BoxFuture;
use outboxd::app;
use outboxd::config::Environment;
use outboxd::domain::Notification;
use outboxd::handlers::{Built, KINDS, Kind};
use uuid::Uuid;

/// What stands for every secret: it must not appear in anything that a person reads.
pub const CANARY: &str = "c4n4ry-of-the-conformance-suite";
const SIGNING_CANARY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Whether a text tells a secret.
pub fn tells_a_secret(text: &str) -> bool {
    [CANARY, SIGNING_CANARY].iter().any(|canary| text.contains(canary))
}

/// One event that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    pub id: String,
    pub body: String,
}

/// Something that a kind delivers to.
pub trait Counterpart: Send + Sync {
    /// The settings of the kind, as TOML lines, for a place that nobody else uses.
    fn settings(&self) -> String;

    /// The receiver is about to be taken away: from now on it must be one that nobody else uses.
    fn stand_alone(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What has arrived at that place so far, in order, read by somebody who is not us.
    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>>;

    /// Takes the receiver away as an outage does: nothing listens any more.
    fn take_away(&self) -> BoxFuture<'_, ()>;

    /// Brings it back, with what it had.
    fn bring_back(&self) -> BoxFuture<'_, ()>;
}

/// How a kind is tried.
pub enum Trial {
    Counterpart(Box<dyn Counterpart>),
    /// It connects to nothing that could be counted or taken away; says which test covers it instead.
    Elsewhere(&'static str),
}

/// The one list to extend for a new kind.
pub async fn counterpart(kind: &str) -> Trial {
    match kind {
        "webhook" => Trial::Counterpart(Box::new(receivers::Webhooks::start().await)),
        "kafka" => kafka::counterpart().await,
        "exec" => Trial::Counterpart(Box::new(programs::Programs::once())),
        "nats" => nats::trial().await,
        #[cfg(feature = "mqtt")]
        "mqtt" => mqtt::trial().await,
        #[cfg(feature = "rabbitmq")]
        "rabbitmq" => rabbitmq::trial().await,
        "redis" => match streams::Streams::start().await {
            Some(streams) => Trial::Counterpart(Box::new(streams)),
            None => Trial::Elsewhere("the package redis-server is not installed"),
        },
        "sql" => Trial::Elsewhere("recovery: its effect and its record are one transaction"),
        "stdout" => Trial::Elsewhere("the unit tests of the kind, and the demo"),
        "discard" => Trial::Elsewhere("it accepts everything and keeps nothing"),
        other => panic!("the kind \"{other}\" has no counterpart: add one to tests/it/conformance"),
    }
}

/// Other ways to set the same kind up, each tried like a kind of its own.
fn further(kind: &str) -> Vec<Box<dyn Counterpart>> {
    match kind {
        "exec" => vec![Box::new(programs::Programs::worker())],
        _ => vec![],
    }
}

/// A handler that talks to something outside this process. Its example names hosts under `.internal`, and only there.
pub fn connects(kind: &Kind) -> bool {
    kind.example.contains(".internal")
}

/// Builds a handler of this kind from its settings.
pub fn build(kind: &Kind, settings: &str) -> Built {
    let entry = format!("[[handlers]]\nname = \"tried\"\nkind = \"{}\"\n{settings}\n", kind.name);
    build_entry(&entry)
}

/// Builds the handler of a whole `[[handlers]]` entry; every variable of the environment is the canary.
pub fn build_entry(entry: &str) -> Built {
    let config = format!("[database]\nurl = \"postgres://nobody@127.0.0.1/none\"\n{entry}");
    let loaded = app::parse(&config, &Canaries).unwrap_or_else(|mistakes| panic!("{entry}: {mistakes:?}"));
    loaded.handlers.into_iter().next().expect("one handler").1
}

/// An event of a key, with a number.
pub fn numbered(key: &str, number: u64) -> Notification {
    Notification {
        id: Uuid::now_v7(),
        aggregate_id: Some(key.to_owned()),
        key: Some(format!("order/{key}")),
        ..Notification::sample("order.placed", &format!("{{\"n\":{number}}}"))
    }
}

/// The counterparts of all kinds that have one.
pub async fn counterparts() -> Vec<(&'static Kind, Box<dyn Counterpart>)> {
    let mut found = Vec::new();
    for kind in KINDS {
        match counterpart(kind.name).await {
            Trial::Counterpart(counterpart) => found.push((kind, counterpart)),
            Trial::Elsewhere(why) => eprintln!("{}: {why}", kind.name),
        }
        found.extend(further(kind.name).into_iter().map(|counterpart| (kind, counterpart)));
    }
    found
}

/// An environment in which every secret is a canary.
struct Canaries;

impl Environment for Canaries {
    fn variable(&self, name: &str) -> Option<String> {
        // A signing secret has a form of its own.
        let is_signing = name.ends_with("_WEBHOOK_SECRET");
        Some(if is_signing { format!("whsec_{SIGNING_CANARY}") } else { CANARY.to_owned() })
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn directory(&self) -> &Path {
        Path::new("/")
    }
}
