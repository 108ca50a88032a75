//! The application: writers that change counters and record events in every way a transaction can go, and remember what they did.
//! They reconnect when the server was killed; what they cannot know then is asked for in the end.

mod transaction;
mod way;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock::{Clock, Moment};
use crate::database::Database;
use crate::ledger::Ledger;
use crate::plan::WRITERS;
use transaction::Draft;
use way::Way;

/// What the writers share.
pub struct Application {
    pub seed: u64,
    pub clock: Clock,
    pub ledger: Ledger,
    pub database: Arc<Database>,
    /// The relays are far behind: wait for them.
    pub waits: AtomicBool,
    pub ends: AtomicBool,
    pub committed: AtomicU64,
    pub transactions: AtomicU64,
    pub lost_answers: AtomicU64,
    pub prepared: AtomicU64,
    prepared_room: Semaphore,
}

impl Application {
    pub fn new(seed: u64, clock: Clock, database: Arc<Database>) -> Self {
        Self {
            seed,
            clock,
            ledger: Ledger::new(seed),
            database,
            waits: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            lost_answers: AtomicU64::new(0),
            prepared: AtomicU64::new(0),
            // The server of the tests allows ten.
            prepared_room: Semaphore::new(4),
        }
    }
}

/// Starts the writers; they end when the application does.
pub fn start(application: &Arc<Application>) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for number in 1..=WRITERS {
        let rng = Rng::with_seed(application.seed.wrapping_mul(31).wrapping_add(u64::from(number)));
        let writer =
            Writer { number, rng, application: Arc::clone(application), connection: None, unresolved: None, unknown_at: 0 };
        writers.spawn(writer.run());
    }
    writers
}

/// One more event, without a key, after all writers have ended.
pub async fn add_one(application: &Arc<Application>) {
    let number = 2;
    let rng = Rng::with_seed(application.seed);
    let connection = application.database.connect().await.ok();
    let mut writer = Writer { number, rng, application: Arc::clone(application), connection, unresolved: None, unknown_at: 0 };
    if writer.connection.is_some() {
        let mut draft = Draft::default();
        // What went wrong is in the draft; the next one comes soon.
        let _ = writer.follow(Way::WithoutKey, &mut draft).await;
        writer.enter(draft);
    }
}

struct Writer {
    number: u16,
    rng: Rng,
    application: Arc<Application>,
    connection: Option<PgConnection>,
    /// A prepared transaction whose end was not answered, and how it ends.
    unresolved: Option<(String, bool)>,
    /// When it last changed the counter that one receiver does not know.
    unknown_at: Moment,
}

/// How often one of the writers does. The receiver's handler needs most of that time to give an event up.
const UNKNOWN_EVERY: Moment = 8_000;

impl Writer {
    async fn run(mut self) {
        while !self.application.ends.load(Ordering::Relaxed) || self.unresolved.is_some() {
            if self.connection.is_none() {
                self.connection = self.application.database.connect().await.ok();
                self.pause(5..40).await;
                continue;
            }
            if let Some((name, commits)) = self.unresolved.take() {
                self.end_prepared(&name, commits).await;
                continue;
            }
            if self.application.waits.load(Ordering::Relaxed) {
                // One goes on slowly: a handler that has nothing but an event that is answered 404 holds it until it has another one.
                if self.number != WRITERS {
                    self.pause(20..60).await;
                    continue;
                }
                self.pause(600..1_000).await;
            }
            self.transaction().await;
        }
    }

    async fn transaction(&mut self) {
        self.application.transactions.fetch_add(1, Ordering::Relaxed);
        let way = Way::draw(&mut self.rng);
        let mut draft = Draft::default();
        // The error tells only that the connection is gone: what became of the events is in the draft.
        if self.follow(way, &mut draft).await.is_err() {
            self.connection = None;
        }
        self.enter(draft);
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(millis))).await;
    }
}
