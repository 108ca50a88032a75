//! The progress of the subscriptions that a relay owns: a row in `progress` for each, and the moments from which the ages of
//! events are counted. Written by the relay's observer only, and never in a flush, so it can be written while a flush hangs.
//! Every statement is bounded in time.

use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{StoreError, begin, commit};

/// How one subscription gets on. Durations count back from now.
#[derive(Debug, Clone, Default)]
pub struct ProgressRow {
    pub subscription: i32,
    /// For display: the handler's name, with the partition if there are several.
    pub name: String,
    pub read: Option<Duration>,
    pub flushed: Option<Duration>,
    pub failing: Option<FailingRow>,
    /// How long the handler still waits because its receiver asked for it, and what it answered.
    pub waiting: Option<(Duration, String)>,
    /// The last answer that was no delivery.
    pub answered: Option<AnsweredRow>,
    /// Of one that has nothing to do: its dead letters.
    pub dead_at_rest: Option<u64>,
}

/// An answer that was no delivery, whether it has spent an attempt or not.
#[derive(Debug, Clone)]
pub struct AnsweredRow {
    pub since: Duration,
    pub event: Uuid,
    pub reason: &'static str,
    pub status: Option<u16>,
    pub detail: String,
}

/// The error that keeps a subscription from going on.
#[derive(Debug, Clone)]
pub struct FailingRow {
    pub since: Duration,
    pub last: Duration,
    pub failures: u64,
    pub operation: &'static str,
    pub sqlstate: Option<String>,
    pub error: String,
    pub event: Option<Uuid>,
}

/// Longest that one statement of a look may take, waiting for locks included. Less than the shortest lease, because the alerts look too.
pub const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Begins a transaction in which no statement works or waits for longer than [`LOOK_TIMEOUT`].
pub(super) async fn begin_look(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    let mut transaction = begin(pool).await?;
    sqlx::query(include_str!("sql/bound_statement.sql"))
        .bind(LOOK_TIMEOUT.as_millis().to_string())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("bound the time of a look"))?;
    Ok(transaction)
}

/// Notes which transactions are finished now, unless another relay has done so within the interval.
pub async fn record_moment(pool: &PgPool, interval: Duration) -> Result<(), StoreError> {
    let mut transaction = begin_look(pool).await?;
    sqlx::query(include_str!("sql/record_moment.sql"))
        .bind(micros(interval))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("note which transactions are finished"))?;
    commit(transaction).await
}

/// Which of these subscriptions are still there.
pub async fn find_existing(pool: &PgPool, subscriptions: &[i32]) -> Result<Vec<i32>, StoreError> {
    let mut transaction = begin_look(pool).await?;
    let found = sqlx::query_scalar(include_str!("sql/find_existing.sql"))
        .bind(subscriptions)
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::query("look for the subscriptions that are served"))?;
    commit(transaction).await?;
    Ok(found)
}

/// Which of these subscriptions have a delivery that will be attempted again.
pub async fn find_parked(pool: &PgPool, subscriptions: &[i32]) -> Result<Vec<i32>, StoreError> {
    if subscriptions.is_empty() {
        return Ok(Vec::new());
    }
    let mut transaction = begin_look(pool).await?;
    let found = sqlx::query_scalar(include_str!("sql/find_parked.sql"))
        .bind(subscriptions)
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::query("look for deliveries of handlers that rest"))?;
    commit(transaction).await?;
    Ok(found)
}

/// Stores how the subscriptions of one relay get on.
pub async fn record_progress(pool: &PgPool, instance: &str, rows: &[ProgressRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let failing = |row: &ProgressRow| row.failing.clone();
    let mut transaction = begin_look(pool).await?;
    sqlx::query(include_str!("sql/record_progress.sql"))
        .bind(instance)
        .bind(column(rows, |row| row.subscription))
        .bind(column(rows, |row| row.name.clone()))
        .bind(column(rows, |row| row.read.map(micros)))
        .bind(column(rows, |row| row.flushed.map(micros)))
        .bind(column(rows, |row| failing(row).map(|failing| micros(failing.since))))
        .bind(column(rows, |row| failing(row).map(|failing| micros(failing.last))))
        .bind(column(rows, |row| failing(row).map(|failing| failing.failures.cast_signed())))
        .bind(column(rows, |row| failing(row).map(|failing| failing.operation)))
        .bind(column(rows, |row| failing(row).and_then(|failing| failing.sqlstate)))
        .bind(column(rows, |row| failing(row).map(|failing| storable(&failing.error))))
        .bind(column(rows, |row| failing(row).and_then(|failing| failing.event)))
        .bind(column(rows, |row| row.waiting.as_ref().map(|(left, _)| micros(*left))))
        .bind(column(rows, |row| row.waiting.as_ref().map(|(_, reason)| storable(reason))))
        .bind(column(rows, |row| row.answered.as_ref().map(|answered| micros(answered.since))))
        .bind(column(rows, |row| row.answered.as_ref().map(|answered| answered.event)))
        .bind(column(rows, |row| row.answered.as_ref().map(|answered| answered.reason)))
        .bind(column(rows, |row| row.answered.as_ref().and_then(|answered| answered.status).map(i32::from)))
        .bind(column(rows, |row| row.answered.as_ref().map(|answered| storable(&answered.detail))))
        .bind(column(rows, |row| row.dead_at_rest.map(u64::cast_signed)))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("store how the subscriptions get on"))?;
    commit(transaction).await
}

/// Names of subscriptions that a running relay serves and that were deleted.
pub async fn list_vanished(pool: &PgPool, silence: Duration) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(include_str!("sql/list_vanished.sql"))
        .bind(micros(silence))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("look for subscriptions that are gone"))
}

/// An error may quote what producers or receivers wrote.
fn storable(text: &str) -> String {
    const MOST_CHARS: usize = 1_000;
    text.chars().filter(|char| *char != '\0').take(MOST_CHARS).collect()
}

fn column<T>(rows: &[ProgressRow], value: impl Fn(&ProgressRow) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
