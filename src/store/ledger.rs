//! The ledger: everything that an owner learned since the last flush, written in one transaction behind one fence (`where epoch =
//! <mine>`).
//!
//! Outcomes and position move together or not at all, and only for the owner of the lease. A lost lease writes nothing. The
//! position is written first, because it is the fence. A flush that Postgres refuses because of its data is written in parts
//! (`store::refused`).

use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::StoreError;
use super::refused::{Unstorable, record_in_parts};
use super::replays::settle_replay_items;
use super::text::storable;
use crate::domain::{DeliveryState, ErrorGroup, Outcome, Position, Reason};
use crate::failpoints::failpoint;

/// The right to write for a subscription: what a lease gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub subscription: i32,
    pub epoch: i64,
}

/// Whether a fenced write happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fenced {
    Written,
    /// Another owner, or we ourselves in a later life, has the lease. Nothing was written.
    LeaseLost,
}

/// The result of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Flushed {
    pub fenced: Fenced,
    /// Outcomes that Postgres refused to store as they were.
    pub unstorable: Vec<Unstorable>,
}

impl From<Fenced> for Flushed {
    fn from(fenced: Fenced) -> Self {
        Self { fenced, unstorable: Vec::new() }
    }
}

/// An outcome other than a first-try success.
#[derive(Debug, Clone)]
pub struct RecordedOutcome {
    pub seq: i64,
    /// The id of the event; for display, not stored.
    pub event: Uuid,
    pub key: Option<String>,
    pub state: DeliveryState,
    pub attempts: u32,
    /// Microseconds until the next attempt; `None`: there will be none without an operator.
    pub due_in_micros: Option<i64>,
    pub status: Option<u16>,
    pub reason: Option<Reason>,
    pub detail: String,
    /// Microseconds since the first attempt began; `None`: there was no attempt.
    pub age_micros: Option<i64>,
    /// Of a dead letter.
    pub group: Option<ErrorGroup>,
    /// A dead letter for which later events of its key wait.
    pub holds_key: bool,
    /// Part of a replay, which counts what becomes of it.
    pub is_replay: bool,
    /// Retrying because its destination is in trouble.
    pub destination: Option<String>,
}

impl RecordedOutcome {
    /// A success at the first attempt, of which only the number of the event is known.
    pub(super) fn delivered(seq: i64) -> Self {
        Self {
            seq,
            event: Uuid::nil(),
            key: None,
            state: DeliveryState::Delivered,
            attempts: 1,
            due_in_micros: None,
            status: None,
            reason: None,
            detail: String::new(),
            age_micros: None,
            group: None,
            holds_key: false,
            is_replay: false,
            destination: None,
        }
    }
}

/// A try that did not succeed at once.
#[derive(Debug, Clone)]
pub struct RecordedAttempt {
    pub seq: i64,
    pub attempt: u32,
    pub duration_ms: i32,
    pub status: Option<u16>,
    pub ambiguous: bool,
    pub outcome: Outcome,
    pub reason: Reason,
    pub detail: String,
}

/// One flush.
#[derive(Debug, Default)]
pub struct Entries {
    /// First-try successes that get a row.
    pub delivered: Vec<i64>,
    pub outcomes: Vec<RecordedOutcome>,
    pub attempts: Vec<RecordedAttempt>,
}

impl Entries {
    pub fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.outcomes.is_empty() && self.attempts.is_empty()
    }
}

/// How far a flush moves the position.
#[derive(Debug, Clone)]
pub struct Reached {
    pub position: Position,
    /// Settled beyond the position without a row.
    pub done: Done,
}

/// The events that are settled without a row when a flush is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The same as in the flush before this one.
    AsStored,
    /// An `int8multirange`; `None`: nothing.
    Now(Option<String>),
}

/// History rows per delivery above which the middle is removed.
const ATTEMPTS_KEPT: u32 = 25;

/// Writes one flush: position, markers, failures, history. If Postgres refuses a value in it, the flush is written in parts, so that one
/// row costs itself only.
pub async fn record(
    pool: &PgPool,
    fence: Fence,
    instance: &str,
    reached: &Reached,
    entries: &Entries,
) -> Result<Flushed, StoreError> {
    match record_whole(pool, fence, instance, reached, entries).await {
        Err(error) if error.is_about_data() => {}
        recorded => return recorded.map(Flushed::from),
    }
    let mut transaction = begin(pool).await?;
    if record_position(&mut transaction, fence, reached).await? == Fenced::LeaseLost {
        return Ok(Fenced::LeaseLost.into()); // the transaction rolls back as it is dropped
    }
    let unstorable = record_in_parts(&mut transaction, fence, instance, entries).await?;
    commit(transaction).await?;
    Ok(Flushed { fenced: Fenced::Written, unstorable })
}

async fn record_whole(
    pool: &PgPool,
    fence: Fence,
    instance: &str,
    reached: &Reached,
    entries: &Entries,
) -> Result<Fenced, StoreError> {
    if entries.outcomes.is_empty() && entries.attempts.is_empty() {
        return record_successes(pool, fence, reached, &entries.delivered).await;
    }
    let mut transaction = begin(pool).await?;
    if record_position(&mut transaction, fence, reached).await? == Fenced::LeaseLost {
        return Ok(Fenced::LeaseLost); // the transaction rolls back as it is dropped
    }
    record_entries(&mut transaction, fence, instance, entries).await?;
    failpoint!("flush-written");
    commit(transaction).await?;
    Ok(Fenced::Written)
}

/// Writes one flush in a transaction of the caller, which must go on: what Postgres refuses is written in parts here, too. Where there is
/// text that could be refused, that costs a savepoint.
pub async fn record_within(
    connection: &mut PgConnection,
    fence: Fence,
    instance: &str,
    reached: &Reached,
    entries: &Entries,
) -> Result<Flushed, StoreError> {
    if record_position(connection, fence, reached).await? == Fenced::LeaseLost {
        return Ok(Fenced::LeaseLost.into());
    }
    if entries.outcomes.is_empty() && entries.attempts.is_empty() {
        insert_delivered(connection, fence, &entries.delivered).await?;
        return Ok(Fenced::Written.into());
    }
    let error = || StoreError::query("record what was called");
    let mut savepoint = connection.begin().await.map_err(error())?;
    match record_entries(&mut savepoint, fence, instance, entries).await {
        Ok(()) => {
            savepoint.commit().await.map_err(error())?;
            Ok(Fenced::Written.into())
        }
        Err(refusal) if refusal.is_about_data() => {
            savepoint.rollback().await.map_err(error())?;
            let unstorable = record_in_parts(connection, fence, instance, entries).await?;
            Ok(Flushed { fenced: Fenced::Written, unstorable })
        }
        Err(failure) => Err(failure),
    }
}

async fn record_position(connection: &mut PgConnection, fence: Fence, reached: &Reached) -> Result<Fenced, StoreError> {
    let moved = bind_reached(sqlx::query(include_str!("sql/record_position.sql")), fence, reached)
        .execute(connection)
        .await
        .map_err(StoreError::query("record the position"))?;
    if moved.rows_affected() == 0 {
        return Ok(Fenced::LeaseLost);
    }
    failpoint!("position-advanced");
    Ok(Fenced::Written)
}

async fn record_entries(connection: &mut PgConnection, fence: Fence, instance: &str, entries: &Entries) -> Result<(), StoreError> {
    insert_delivered(connection, fence, &entries.delivered).await?;
    record_outcomes(connection, fence, &entries.outcomes).await?;
    record_attempts(connection, fence, instance, &entries.attempts).await
}

/// Markers of first-try successes.
pub(super) async fn insert_delivered(connection: &mut PgConnection, fence: Fence, delivered: &[i64]) -> Result<(), StoreError> {
    if delivered.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/insert_delivered.sql"))
        .bind(fence.subscription)
        .bind(delivered)
        .execute(connection)
        .await
        .map(drop)
        .map_err(StoreError::query("record what was delivered"))
}

pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    pool.begin().await.map_err(StoreError::query("begin a transaction"))
}

pub async fn commit(transaction: Transaction<'static, Postgres>) -> Result<(), StoreError> {
    transaction.commit().await.map_err(StoreError::query("commit"))
}

async fn record_successes(pool: &PgPool, fence: Fence, reached: &Reached, delivered: &[i64]) -> Result<Fenced, StoreError> {
    let query = if delivered.is_empty() {
        bind_reached(sqlx::query(include_str!("sql/record_position.sql")), fence, reached)
    } else {
        bind_reached(sqlx::query(include_str!("sql/record_delivered.sql")), fence, reached).bind(delivered)
    };
    let written = query.execute(pool).await.map_err(StoreError::query("record what was delivered"))?;
    Ok(if written.rows_affected() == 0 { Fenced::LeaseLost } else { Fenced::Written })
}

type Query<'q> = sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>;

fn bind_reached<'q>(query: Query<'q>, fence: Fence, reached: &'q Reached) -> Query<'q> {
    let Position { snapshot, low_seq, high_seq, window } = &reached.position;
    let (done, is_news) = match &reached.done {
        Done::AsStored => (None, false),
        Done::Now(done) => (done.as_deref(), true),
    };
    query
        .bind(fence.subscription)
        .bind(fence.epoch)
        .bind(snapshot.as_str())
        .bind(low_seq)
        .bind(high_seq)
        .bind(window.as_ref().map(|window| window.snapshot.as_str()))
        .bind(window.as_ref().map(|window| window.seq))
        .bind(window.as_ref().map(|window| window.high_seq))
        .bind(done)
        .bind(is_news)
}

/// Outcomes other than those; nothing if there are none.
pub(super) async fn record_outcomes(
    connection: &mut PgConnection,
    fence: Fence,
    outcomes: &[RecordedOutcome],
) -> Result<(), StoreError> {
    if outcomes.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/record_outcomes.sql"))
        .bind(fence.subscription)
        .bind(column(outcomes, |o| o.seq))
        .bind(column(outcomes, |o| o.state.as_str()))
        .bind(column(outcomes, |o| o.attempts.cast_signed()))
        .bind(column(outcomes, |o| o.due_in_micros))
        .bind(column(outcomes, |o| o.key.as_deref()))
        .bind(column(outcomes, |o| o.status.map(i32::from)))
        .bind(column(outcomes, |o| o.reason.map(Reason::as_str)))
        .bind(column(outcomes, |o| Some(storable(&o.detail)).filter(|detail| !detail.is_empty())))
        .bind(column(outcomes, |o| o.age_micros))
        .bind(column(outcomes, |o| o.group.as_ref().map(|group| storable(&group.text))))
        .bind(column(outcomes, |o| o.group.as_ref().map(|group| group.fingerprint)))
        .bind(column(outcomes, |o| o.holds_key.then_some(true)))
        .bind(column(outcomes, |o| o.destination.clone()))
        .execute(&mut *connection)
        .await
        .map_err(StoreError::query("record outcomes"))?;
    failpoint!("dead-letter-written", outcomes.iter().any(|o| o.state == DeliveryState::Dead));
    failpoint!("retry-written", outcomes.iter().any(|o| o.state == DeliveryState::Retrying));
    failpoint!("waiting-written", outcomes.iter().any(|o| o.state == DeliveryState::Waiting));
    let is_end = |o: &&RecordedOutcome| o.is_replay && matches!(o.state, DeliveryState::Delivered | DeliveryState::Dead);
    let ended: Vec<i64> = outcomes.iter().filter(is_end).map(|o| o.seq).collect();
    if !ended.is_empty() {
        settle_replay_items(connection, fence.subscription, &ended).await?;
    }
    Ok(())
}

/// The history of tries; nothing if there are none.
pub(super) async fn record_attempts(
    connection: &mut PgConnection,
    fence: Fence,
    instance: &str,
    attempts: &[RecordedAttempt],
) -> Result<(), StoreError> {
    if attempts.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/record_attempts.sql"))
        .bind(fence.subscription)
        .bind(instance)
        .bind(column(attempts, |a| a.seq))
        .bind(column(attempts, |a| a.attempt.cast_signed()))
        .bind(column(attempts, |a| a.duration_ms))
        .bind(column(attempts, |a| a.status.map(i32::from)))
        .bind(column(attempts, |a| a.ambiguous))
        .bind(column(attempts, |a| a.outcome.as_str()))
        .bind(column(attempts, |a| a.reason.as_str()))
        .bind(column(attempts, |a| Some(storable(&a.detail)).filter(|detail| !detail.is_empty())))
        .execute(&mut *connection)
        .await
        .map_err(StoreError::query("record attempts"))?;
    let crowded: Vec<i64> = attempts.iter().filter(|a| a.attempt > ATTEMPTS_KEPT).map(|a| a.seq).collect();
    if !crowded.is_empty() {
        sqlx::query(include_str!("sql/trim_attempts.sql"))
            .bind(fence.subscription)
            .bind(crowded)
            .execute(connection)
            .await
            .map_err(StoreError::query("trim the history of attempts"))?;
    }
    Ok(())
}

fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Counts an attempt before it is made. `None`: the lease is lost.
pub async fn count_attempt(pool: &PgPool, fence: Fence, seq: i64, key: Option<&str>) -> Result<Option<u32>, StoreError> {
    let attempts: Option<i32> = sqlx::query_scalar(include_str!("sql/count_attempt.sql"))
        .bind(fence.subscription)
        .bind(fence.epoch)
        .bind(seq)
        .bind(key)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("count an attempt"))?;
    Ok(attempts.map(i32::unsigned_abs))
}
