//! A turn: everything that a loop writes to the database and reads from it, as one sequence of statements.
//!
//! The sequence is: flush, changes of the circuit and of destinations, release of replays, waiting rows of keys that can go on,
//! due retries, deliveries whose event is gone, the state of the lanes, the time of the next retry. Each statement takes a
//! connection of the pool `ledger`; the flush may be written by the recorder together with the flushes of other loops.
//!
//! A loop has one turn at a time, and within it the reads come after the committed flush. So what is read cannot contain a row
//! whose outcome that flush recorded. A lost lease ends the turn at its first fenced statement.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::recorder::{self, Recorder};
use crate::failpoints::failpoint;
use crate::store::{
    self, Entries, Fence, Fenced, Flushed, Reached, RecordedDelivery, RecordedLane, Released, Room, StoreError, UnreadableDelivery,
    Unstorable,
};
use crate::telemetry::DatabaseOperation::{self, Flush, Read};

/// The work of one turn.
#[derive(Debug)]
pub struct Ask {
    pub flush: Option<(Reached, Entries)>,
    /// Keys whose waiting deliveries can go on.
    pub refills: Vec<String>,
    pub due: bool,
    /// In memory: neither to be read again nor to be counted as the next retry.
    pub known_due: Vec<i64>,
    pub room: Room,
    /// Compare the lanes with the database: `Some(dead letters hold their key)`.
    pub lanes: Option<bool>,
    /// Let the next deliveries of replays leave, at most so many.
    pub release: Option<(Arc<store::Selection>, u64)>,
    /// Destinations have come into trouble, or out of it.
    pub destinations: Option<store::DestinationNews>,
    /// The circuit has changed.
    pub circuit: Option<CircuitNews>,
}

/// The circuit as it is to be recorded.
#[derive(Debug)]
pub struct CircuitNews {
    pub state: &'static str,
    pub reason: Option<&'static str>,
    /// Until the next probe.
    pub wait: Option<Duration>,
    /// The only event that it is judged by.
    pub only_witness: Option<Uuid>,
}

/// The result of a turn.
#[derive(Debug, Default)]
pub struct Answer {
    pub lease_is_lost: bool,
    /// Something was written.
    pub flushed: bool,
    /// `next_due` is known.
    pub asked: bool,
    pub refills: Vec<String>,
    pub waiting: Vec<RecordedDelivery>,
    pub due: Option<Vec<RecordedDelivery>>,
    /// Deliveries that have ended because their event is gone.
    pub orphans: u64,
    /// Until the next retry; `None`: there is none.
    pub next_due: Option<Duration>,
    pub lanes: Option<Vec<RecordedLane>>,
    pub released: Option<Released>,
    /// Recorded deliveries whose events cannot be read.
    pub unreadable: Vec<UnreadableDelivery>,
    /// Outcomes of the flush that Postgres refused to store as they were.
    pub unstorable: Vec<Unstorable>,
}

/// Waiting deliveries read per key at once.
const REFILL: i64 = 64;

/// An error of the database, and the operation that met it.
#[derive(Debug)]
pub struct Failed {
    pub operation: DatabaseOperation,
    pub cause: StoreError,
}

impl Failed {
    /// For `map_err`.
    pub fn at(operation: DatabaseOperation) -> impl Fn(StoreError) -> Self {
        move |cause| Self { operation, cause }
    }
}

/// Takes a turn.
pub async fn take(pool: PgPool, recorder: Arc<Recorder>, fence: Fence, instance: String, ask: Ask) -> Result<Answer, Failed> {
    let (flushing, reading) = (Failed::at(Flush), Failed::at(Read));
    let mut answer = Answer::default();
    let mut orphans = Vec::new();
    // First-try successes change nothing about what is due.
    let asks_next = ask.due || ask.release.is_some() || ask.flush.as_ref().is_none_or(|(_, entries)| !entries.outcomes.is_empty());
    if let Some((reached, entries)) = ask.flush {
        answer.flushed = true;
        failpoint!("flush-begun");
        let flushed = record(&pool, &recorder, fence, &instance, reached, entries).await.map_err(&flushing)?;
        answer.unstorable = flushed.unstorable;
        if flushed.fenced == Fenced::LeaseLost {
            return Ok(Answer { lease_is_lost: true, ..answer });
        }
        failpoint!("flush-committed");
    }
    if let Some(CircuitNews { state, reason, wait, only_witness }) = ask.circuit {
        let recorded = store::subscriptions::record_circuit(&pool, fence, (state, reason), wait, only_witness);
        let recorded = recorded.await.map_err(&flushing)?;
        if recorded == Fenced::LeaseLost {
            return Ok(Answer { lease_is_lost: true, ..answer });
        }
        failpoint!("circuit-recorded");
    }
    if let Some(news) = &ask.destinations {
        store::record_destinations(&pool, fence, news).await.map_err(&flushing)?;
    }
    // Before what is due is read, so that what leaves now is among it.
    if let Some((selection, limit)) = ask.release {
        answer.released = Some(release(&pool, fence, &selection, limit).await.map_err(&flushing)?);
    }
    if !ask.refills.is_empty() {
        let waiting = store::read_waiting(&pool, fence.subscription, &ask.refills, REFILL, ask.room.bytes);
        let read = waiting.await.map_err(&reading)?;
        answer.waiting = read.rows;
        answer.unreadable = read.unreadable;
        orphans.extend(read.orphans);
        failpoint!("waiting-read", !answer.waiting.is_empty());
        answer.refills = ask.refills;
    }
    let mut known_due = ask.known_due;
    if ask.due {
        let read = store::read_due(&pool, fence.subscription, ask.room, &known_due).await.map_err(&reading)?;
        answer.due = Some(read.rows);
        answer.unreadable.extend(read.unreadable);
        orphans.extend(read.orphans);
        failpoint!("due-read", answer.due.as_ref().is_some_and(|due| !due.is_empty()));
    }
    if !orphans.is_empty() {
        answer.orphans = store::end_orphans(&pool, fence, &orphans).await.map_err(&flushing)?;
    }
    if let Some(dead_holds) = ask.lanes {
        answer.lanes = Some(store::read_lanes(&pool, fence.subscription, dead_holds).await.map_err(&reading)?);
    }
    if !asks_next {
        return Ok(answer);
    }
    // The rows read now are known, too.
    known_due.extend(answer.due.iter().flatten().map(|row| row.notification.seq));
    answer.next_due = store::find_next_due(&pool, fence.subscription, &known_due).await.map_err(&reading)?;
    answer.asked = true;
    Ok(answer)
}

/// Writes a flush: together with those of other loops where that cannot fail for it alone, otherwise alone.
async fn record(
    pool: &PgPool,
    recorder: &Recorder,
    fence: Fence,
    instance: &str,
    reached: Reached,
    mut entries: Entries,
) -> Result<Flushed, StoreError> {
    let has_only_successes = entries.outcomes.is_empty() && entries.attempts.is_empty();
    if !has_only_successes {
        return store::record(pool, fence, instance, &reached, &entries).await;
    }
    match recorder.record(fence, reached, std::mem::take(&mut entries.delivered)).await? {
        recorder::Answer::Written => Ok(Fenced::Written.into()),
        recorder::Answer::Alone(reached, delivered) => {
            store::record(pool, fence, instance, &reached, &Entries { delivered, ..entries }).await
        }
    }
}

/// Lets the next deliveries of replays leave; where nothing did, a replay may have come to its end.
async fn release(pool: &PgPool, fence: Fence, selection: &store::Selection, limit: u64) -> Result<Released, StoreError> {
    let released = store::release_replays(pool, fence, selection, limit).await?;
    failpoint!("replay-released", released.released > 0);
    if released.released == 0 {
        store::finish_replays(pool).await?;
    }
    Ok(released)
}

/// Records the outcomes of called functions in their own transaction, and commits both.
pub async fn commit_functions(
    mut transaction: Transaction<'static, Postgres>,
    fence: Fence,
    instance: String,
    reached: Reached,
    entries: Entries,
) -> Result<Answer, StoreError> {
    let flushed = store::record_within(&mut transaction, fence, &instance, &reached, &entries).await?;
    let lease_is_lost = flushed.fenced == Fenced::LeaseLost;
    if !lease_is_lost {
        failpoint!("function-recorded");
        store::commit(transaction).await?;
        failpoint!("function-committed");
    }
    Ok(Answer { lease_is_lost, flushed: true, unstorable: flushed.unstorable, ..Answer::default() })
}
