//! The relay: loops that read the log, hand each event to its handler, and record what came of it.
//! The supervisor shares the subscriptions between instances; each subscription is one loop with one owner.

mod books;
mod dispatch;
mod reader;
mod retention;
mod subscription;
mod supervisor;
mod turn;
mod wake_up;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::config::{self, HandlerConfig};
use crate::domain::Incarnation;
use crate::handlers::Built;
use crate::store::{Instance, Selection, ServerWatch, StoreError};
use crate::telemetry::{Backlog, HandlerMetrics, Health, RelayMetrics};

pub use supervisor::{Relay, RelayOptions};

/// Why the relay cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no handler is configured; add a [[handlers]] entry")]
    NoHandlers,
    #[error(
        "handler {handler} has {stored} partitions in the database and {configured} in the configuration; \
         set partitions = {stored}, or give the handler a new name"
    )]
    Partitions { handler: String, stored: u16, configured: u16 },
    #[error(
        "the positions in this database belong to cluster {}, but this server is cluster {}: it was restored from a dump, copied \
         logically or upgraded; nothing is dispatched. If this is the server to relay from, run \"outboxd rebase\"",
        .stored.system_identifier, .found.system_identifier
    )]
    ForeignCluster { stored: Incarnation, found: Incarnation },
    #[error(
        "the positions in this database were not written here but in database {} of the same cluster (this is {}), or before a \
         restore: it is a copy; nothing is dispatched. If this is the database to relay from, run \"outboxd rebase\"",
        .stored.database, .found.database
    )]
    Copied { stored: Incarnation, found: Incarnation },
    #[error(
        "the positions in this database know transaction {known}, but this server has begun none from {next} on: its numbers began \
         anew; nothing is dispatched. Run \"outboxd rebase\" to find what is pending"
    )]
    Renumbered { next: i64, known: i64 },
    #[error(
        "the positions in this database belong to timeline {}, but this server is on timeline {}: it was promoted, recovered to a \
         moment, or is a clone; nothing is dispatched. If this is the server to relay from, run \"outboxd run \
         --follow-new-timeline\" once after a failover (or set database.on_new_timeline = \"follow\"), or look at what is pending \
         first and run \"outboxd rebase\"", .stored.timeline, .found.timeline
    )]
    NewTimeline { stored: Incarnation, found: Incarnation },
    #[error("the server is a standby; outboxd needs the primary")]
    Standby,
    #[error("another server answers than before; starting over from what is stored")]
    ServerChanged,
}

/// One handler, ready to be served.
pub struct HandlerSetup {
    pub config: HandlerConfig,
    pub built: Built,
}

/// What every loop of this relay shares.
struct Shared {
    pool: PgPool,
    server: Arc<ServerWatch>,
    instance: Instance,
    options: config::Relay,
    schema: String,
    wake_up: Arc<wake_up::WakeUp>,
    health: Arc<Health>,
    metrics: RelayMetrics,
    trust: Trust,
    /// Bytes that one loop may hold.
    memory_per_loop: usize,
}

/// Until when our leases hold by our own clock, which also runs while the process is stopped. Read before the statement that
/// renewed them was sent, so it errs on the early side. Without it a relay that wakes up after its lease begins attempts that
/// belong to another owner, until its first flush tells it.
struct Trust(Mutex<Instant>);

impl Trust {
    fn new(until: Instant) -> Self {
        Self(Mutex::new(until))
    }

    fn extend(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn holds_for(&self, time: Duration) -> bool {
        Instant::now() + time < *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the loops of one handler share.
struct HandlerShared {
    config: HandlerConfig,
    built: Built,
    metrics: HandlerMetrics,
    selections: Vec<Arc<Selection>>,
    backlogs: Backlogs,
}

/// What each partition of a handler last measured. The gauges belong to the handler, so they show the sum.
struct Backlogs(Mutex<Vec<Backlog>>);

impl Backlogs {
    fn new(partitions: u16) -> Self {
        Self(Mutex::new(vec![Backlog::default(); usize::from(partitions)]))
    }

    /// Takes one partition's figures and gives the handler's.
    fn replace(&self, partition: u16, backlog: Backlog) -> Backlog {
        let mut backlogs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        backlogs[usize::from(partition)] = backlog;
        let sum = |part: fn(&Backlog) -> u64| backlogs.iter().map(part).sum();
        Backlog {
            ready: sum(|backlog| backlog.ready),
            retrying: sum(|backlog| backlog.retrying),
            waiting: sum(|backlog| backlog.waiting),
            in_flight: sum(|backlog| backlog.in_flight),
            dead: sum(|backlog| backlog.dead),
            oldest_seconds: backlogs.iter().map(|backlog| backlog.oldest_seconds).fold(0.0, f64::max),
        }
    }
}

/// A subscription's name for people: the handler's, with the partition if there are several.
fn subscription_name(config: &HandlerConfig, partition: u16) -> String {
    if config.partitions > 1 { format!("{}/{partition}", config.name) } else { config.name.clone() }
}

/// What the supervisor tells a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Control {
    is_paused: bool,
    order: Order,
    /// Rises when a person changed something: look at the recorded deliveries now.
    looks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Work,
    /// Begin nothing, finish what is in flight, record it, release the lease.
    Drain,
    /// Abort what is in flight, record what is finished, release the lease.
    Release,
    /// The lease is lost: record nothing.
    Abandon,
}

/// How often a loop measures its backlog.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(5);
