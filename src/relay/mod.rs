//! The relay: loops that read the log, hand each event to its handler, and record the outcome.
//!
//! The supervisor shares the subscriptions between instances. Each subscription has one loop with one owner. In the order of
//! reading:
//!
//! - `supervisor`: leases, and the life of the loops; `supervisor::helpers` starts what all loops share (`wake_up`, `tail`,
//!   `recorder`, `observer`, `retention`, `alerts`)
//! - `subscription`: one loop, with `reading`, `attempts` and `turns`, its three kinds of work
//! - `reader`, `narrowing`: the next segment of the log; `dispatch`, `worker`: attempts in flight; `turn`: one exchange with the
//!   database
//! - `books`: the memory of a loop, which decides nothing that `domain` can decide
//! - `functions`: the kind `sql`; `publisher`: the feed

mod alerts;
mod attempt;
mod batch_size;
mod books;
mod contract_use;
mod contracts;
mod dispatch;
mod figures;
mod functions;
mod halves;
mod narrowing;
mod observer;
mod post;
mod projector;
mod publisher;
mod reader;
mod recorder;
mod reload;
mod retention;
mod subscription;
mod supervisor;
mod tail;
mod turn;
mod wake_up;
mod worker;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, Semaphore, watch};
use uuid::Uuid;

use crate::config::{self, HandlerConfig};
use crate::domain::{Incarnation, Verdict};
use crate::handlers::Built;
use crate::store::{self, Instance, Selection, ServerWatch, SessionSettings, StoreError};
use crate::telemetry::{ContractUse, HandlerMetrics, Health, ReceiverUse, RelayMetrics};

use figures::{Answered, Figure, Figures, Measure};

pub use alerts::{AlertSetup, AlertSignals, CursorLag};
pub use contract_use::write_contract_use;
pub use contracts::{prepare, with_contracts};
pub use reload::{Change, RelayHandle};
pub use supervisor::{Relay, RelayOptions, check_registration};
pub use worker::attempt;

/// Why the relay cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no handler is configured; add a [[handlers]] entry")]
    NoHandlers,
    #[error(
        "handler {handler} has {stored} partitions in the database and {configured} in the configuration; set partitions = {stored}, \
         or change the database: take {handler} out of the configuration, run \"outboxd reload\" and \
         \"outboxd handlers repartition {handler} {configured}\", and put it back"
    )]
    Partitions { handler: String, stored: u16, configured: u16 },
    #[error(
        "handler {handler} is split into {partitions} partitions by the ordering key {stored}, and the configuration says {configured}: \
         events that one partition still has to deliver would belong to another that has passed them. Set the key back, or change the \
         database: take {handler} out of the configuration, run \"outboxd reload\" and \
         \"outboxd handlers repartition {handler} {partitions} --ordering-key {configured}\", and put it back"
    )]
    OrderingKey { handler: String, partitions: u16, stored: String, configured: String },
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
        "the positions in this database know event number {known}, but the sequence of the events stands at {last}: the events were \
         truncated or restored, or the sequence was set back, and numbers are given out a second time; nothing is dispatched. Stop the \
         relay and run \"outboxd rebase\": it raises the sequence and gives the events that have a used number a new one"
    )]
    NumberedAgain { last: i64, known: i64 },
    #[error(
        "the positions in this database belong to timeline {}, but this server is on timeline {}: it was promoted, recovered to a \
         moment, or is a clone; nothing is dispatched. If this is the server to relay from, run \"outboxd run \
         --follow-new-timeline\" once after a failover (or set database.on_new_timeline = \"follow\"), or look at what is pending \
         first and run \"outboxd rebase\"", .stored.timeline, .found.timeline
    )]
    NewTimeline { stored: Incarnation, found: Incarnation },
    #[error("the server is a standby; outboxd needs the primary")]
    Standby,
    #[error(
        "projection {name} has had a version {version} that was dropped, and its number is not used again: what it wrote may still be \
         there. Give the projection a higher version, or take the entry out of the configuration"
    )]
    DroppedVersion { name: String, version: u32 },
    #[error("the relay is stopping")]
    Stopping,
    #[error("the database did not take the handlers in time")]
    SlowRegistration,
    #[error(
        "handler {handler} cannot read {MOST_UNREADABLE} events in a row, so the events are not what is wrong: {cause}; it stops here, \
         and no more of them become dead letters"
    )]
    Unreadable { handler: String, event: Uuid, cause: String },
    #[error("another server answers than before; starting over from what is stored")]
    ServerChanged,
    /// The functions of a turn have run, and what they did could not be recorded with them, although the server is there: one of them
    /// may be why.
    #[error("could not record what the functions of this turn did; counting calls before they are made")]
    Unrecorded(#[source] StoreError),
}

/// One handler, ready to be served.
pub struct HandlerSetup {
    pub config: HandlerConfig,
    pub built: Built,
}

/// The parts that all loops of this relay share.
struct Shared {
    connections: store::Connections,
    server: Arc<ServerWatch>,
    instance: Instance,
    settings: Live,
    /// The settings of the sessions of the pools.
    session: Arc<SessionSettings>,
    /// After which a loop gives a connection up that does not answer; `None`: never.
    answer_timeout: Option<Duration>,
    wake_up: Arc<wake_up::WakeUp>,
    tail: Arc<tail::Tail>,
    recorder: Arc<recorder::Recorder>,
    /// The moment from which the common moments of all loops are counted.
    began: Instant,
    /// For loops that begin: a thousand at once would wait for connections until they gave up, begin again, and never all get there.
    beginners: Semaphore,
    /// The subscriptions that this relay serves, for the observer.
    served: watch::Sender<Vec<observer::Served>>,
    /// Wakes the observer: a loop has failed.
    observe: Arc<Notify>,
    health: Arc<Health>,
    metrics: RelayMetrics,
    /// Counts the versions of contracts that handlers are sent.
    contract_use: ContractUse,
    trust: Trust,
    /// The last place that was given to an event of the feed.
    published: watch::Sender<i64>,
}

impl Shared {
    /// The settings as they are now.
    fn options(&self) -> Arc<config::Relay> {
        Arc::clone(&self.settings.0.read().unwrap_or_else(PoisonError::into_inner).options)
    }

    /// Waits for some statements, no longer than a server that is there takes.
    async fn answered<T>(&self, statements: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let answer = store::answered(self.answer_timeout, statements, |silent| silent).await;
        answer.inspect_err(|failure| self.heard(failure))
    }

    /// Something has failed at the database: does more follow from it?
    fn heard(&self, failure: &StoreError) {
        if failure.is_silence() {
            self.connections.forget_idle();
        }
    }

    /// Bytes that one loop may hold now.
    fn memory_per_loop(&self) -> usize {
        self.settings.0.read().unwrap_or_else(PoisonError::into_inner).memory_per_loop
    }
}

/// Settings of the relay that may change while it runs, and what follows from them.
struct Live(RwLock<LiveSettings>);

struct LiveSettings {
    options: Arc<config::Relay>,
    memory_per_loop: usize,
}

impl Live {
    fn new(options: config::Relay, loops: usize) -> Self {
        Self(RwLock::new(LiveSettings::new(options, loops)))
    }

    fn replace(&self, options: config::Relay, loops: usize) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = LiveSettings::new(options, loops);
    }
}

impl LiveSettings {
    fn new(options: config::Relay, loops: usize) -> Self {
        let memory = usize::try_from(options.memory).unwrap_or(usize::MAX);
        Self { options: Arc::new(options), memory_per_loop: memory / loops.max(1) }
    }
}

/// Until when our leases hold by our own clock, which also runs while the process is stopped. Read before the statement that
/// renewed them was sent, so it errs on the early side. Without it a relay that wakes up after its lease begins attempts that
/// belong to another owner, until its first flush fails.
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

/// Events that a handler may fail to read one after the other before it stops: many rows that are unreadable point to the server, the
/// schema or outboxd, and an outage must not make dead letters of a backlog.
const MOST_UNREADABLE: usize = 200;

/// The parts that the loops of one handler share.
struct HandlerShared {
    config: HandlerConfig,
    built: Built,
    metrics: HandlerMetrics,
    contract_use: ReceiverUse,
    selections: Vec<Arc<Selection>>,
    figures: Figures,
    /// Since the last event that could be read.
    unreadable_in_a_row: AtomicUsize,
}

impl HandlerShared {
    /// Counts what a read could and could not read out. Fails when too much could not.
    fn count_unreadable(&self, segment: &reader::Segment) -> Result<(), RelayError> {
        if !segment.notifications.is_empty() {
            self.unreadable_in_a_row.store(0, Relaxed);
        }
        let Some(last) = segment.unreadable.iter().rev().find(|unreadable| !unreadable.is_certain) else { return Ok(()) };
        let before = self.unreadable_in_a_row.fetch_add(segment.unreadable.len(), Relaxed);
        if before < MOST_UNREADABLE {
            return Ok(());
        }
        let event = last.notification.id;
        let cause = format!("event {event}: {}", last.cause);
        Err(RelayError::Unreadable { handler: self.config.name.clone(), event, cause })
    }

    /// Changes what the metrics show of one partition.
    fn show(&self, partition: u16, change: impl FnOnce(&mut Figure)) {
        self.figures.change(&self.metrics, partition, change);
    }

    /// The measurement of one partition by the observer since the last call.
    fn take_measure(&self, partition: u16) -> Option<Measure> {
        self.figures.with(partition, |figure| figure.measure.take())
    }

    /// An attempt has ended without a delivery.
    fn tell_answer(&self, partition: u16, event: Uuid, verdict: &Verdict) {
        let Verdict { reason, status, detail, .. } = verdict;
        let answered = Answered { at: Instant::now(), event, reason: *reason, status: *status, detail: detail.clone() };
        self.figures.with(partition, |figure| figure.answered = Some(answered));
    }

    /// The loop of one partition has nothing to do, or has again.
    fn rests(&self, partition: u16, rests: bool) {
        self.figures.with(partition, |figure| {
            figure.rests = rests;
            figure.stirs += 1;
        });
    }

    /// The rows of one partition may have changed.
    fn stir(&self, partition: u16) {
        self.figures.with(partition, |figure| figure.stirs += 1);
    }

    /// How often one partition was stirred, if it rests now.
    fn rest(&self, partition: u16) -> Option<u64> {
        self.figures.with(partition, |figure| figure.rests.then_some(figure.stirs))
    }

    /// The last answer of one partition that was no delivery.
    fn last_answer(&self, partition: u16) -> Option<Answered> {
        self.figures.with(partition, |figure| figure.answered.clone())
    }

    /// Until when one partition waits because its receiver asked for it, and what the receiver answered.
    fn holds(&self, partition: u16) -> (Option<Instant>, String) {
        self.figures.with(partition, |figure| (figure.held_until, figure.held_reason.clone()))
    }
}

/// A subscription's name for display: the handler's, with the partition if there are several.
fn subscription_name(config: &HandlerConfig, partition: u16) -> String {
    if config.partitions > 1 { format!("{}/{partition}", config.name) } else { config.name.clone() }
}

/// The orders of the supervisor to a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Control {
    is_paused: bool,
    order: Order,
    /// Rises when an operator changed something: look at the recorded deliveries now.
    looks: u64,
    /// Rises when an operator closed the circuit.
    circuit_closings: i32,
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

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
