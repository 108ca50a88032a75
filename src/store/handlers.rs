//! Handlers as operators see them: every partition taken together; paused, resumed and forgotten. A handler that a live relay
//! serves is never forgotten.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use super::audit::lift_statement_timeout;
use super::status::count_backlog;
use super::text::storable;
use super::{AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::Timestamp;
use crate::telemetry::{chain, is_stuck};

/// More handlers than anybody has.
const MOST_HANDLERS: i64 = 1000;

/// Whether a handler gets its events, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HandlerState {
    /// An operator has paused it.
    Paused,
    /// No live relay owns at least one of its partitions.
    NoOwner,
    /// At least one of its partitions cannot read or cannot record.
    Stuck,
    /// The circuit breaker holds at least one of its partitions.
    CircuitOpen,
    /// Its receiver asked for a pause.
    Waiting,
    Running,
}

/// A handler with all its partitions.
#[derive(Debug, Clone, serde::Serialize)]
pub struct HandlerRow {
    pub name: String,
    pub kind: String,
    pub state: HandlerState,
    pub partitions: u64,
    /// Partitions with a live lease, and who has them.
    pub owned: u64,
    pub owners: Vec<String>,
    pub paused_at: Option<Timestamp>,
    pub paused_by: Option<String>,
    pub pause_reason: Option<String>,
    pub open_circuits: u64,
    pub circuit_reason: Option<String>,
    /// Since when a partition cannot read or cannot record, and why.
    pub failing_since: Option<Timestamp>,
    pub failing_error: Option<String>,
    /// Until when its receiver asked it to wait.
    pub waiting_until: Option<Timestamp>,
    /// Events without any outcome, as in `status`; where it is not exact there are at least so many.
    pub pending: u64,
    pub pending_is_exact: bool,
    /// Why nothing could be counted; `None`: it was.
    pub uncounted: Option<String>,
    pub retrying: u64,
    pub waiting: u64,
    pub dead: u64,
}

/// The result of forgetting a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// Its subscriptions and deliveries are gone.
    Gone { subscriptions: u64, deliveries: u64 },
    /// Live relays own it; nothing was changed.
    Owned(Vec<String>),
    /// There is no such handler.
    Unknown,
}

/// Every handler, or the one that is named.
pub async fn read_handlers(pool: &PgPool, name: Option<&str>) -> Result<Vec<HandlerRow>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_handlers.sql"))
        .bind(name)
        .bind(MOST_HANDLERS)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the handlers"))?;
    let handlers = rows.iter().map(handler).collect::<Result<Vec<_>, _>>();
    let mut handlers = handlers.map_err(StoreError::query("understand the handlers"))?;
    let mut uncounted: Option<String> = None;
    for handler in &mut handlers {
        let counted = match &uncounted {
            None => count_backlog(pool, &handler.name).await.map_err(|error| chain(&error)),
            // Where one look ran into its time limit, the next would, too.
            Some(why) => Err(why.clone()),
        };
        let backlog = match counted {
            Ok(backlog) => backlog,
            Err(why) => {
                handler.uncounted = Some(why.clone());
                uncounted = Some(why);
                continue;
            }
        };
        (handler.pending, handler.pending_is_exact) = (backlog.pending, backlog.pending_is_exact);
        (handler.retrying, handler.waiting, handler.dead) = (backlog.retrying, backlog.waiting, backlog.dead);
    }
    Ok(handlers)
}

fn handler(row: &PgRow) -> Result<HandlerRow, sqlx::Error> {
    let count = |column: &str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let mut handler = HandlerRow {
        name: row.try_get("handler")?,
        kind: row.try_get("kind")?,
        state: HandlerState::Running,
        partitions: count("partitions")?,
        owned: count("owned")?,
        owners: row.try_get::<Option<_>, _>("owners")?.unwrap_or_default(),
        paused_at: row.try_get("paused_at")?,
        paused_by: row.try_get("paused_by")?,
        pause_reason: row.try_get("pause_reason")?,
        open_circuits: count("open_circuits")?,
        circuit_reason: row.try_get("circuit_reason")?,
        failing_since: row.try_get("failing_since")?,
        failing_error: row.try_get("failing_error")?,
        waiting_until: row.try_get("waiting_until")?,
        pending: 0,
        pending_is_exact: true,
        uncounted: None,
        retrying: 0,
        waiting: 0,
        dead: 0,
    };
    let failures = row.try_get::<Option<i64>, _>("failures")?.unwrap_or_default().unsigned_abs();
    let lasted = row.try_get::<Option<i64>, _>("failing_micros")?.map(|micros| Duration::from_micros(micros.max(0).unsigned_abs()));
    let is_failing = lasted.is_some_and(|lasted| is_stuck(failures, lasted));
    handler.state = state(&handler, is_failing);
    Ok(handler)
}

fn state(handler: &HandlerRow, is_failing: bool) -> HandlerState {
    match handler {
        HandlerRow { paused_at: Some(_), .. } => HandlerState::Paused,
        HandlerRow { owned, partitions, .. } if owned < partitions => HandlerState::NoOwner,
        _ if is_failing => HandlerState::Stuck,
        HandlerRow { open_circuits: 1.., .. } => HandlerState::CircuitOpen,
        HandlerRow { waiting_until: Some(_), .. } => HandlerState::Waiting,
        _ => HandlerState::Running,
    }
}

/// The backlogs of some handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// How many of them are in the database.
    pub registered: i64,
    /// Events that a handler wants and has not finished.
    pub deliveries: i64,
}

/// Counts what these handlers still have to do. Reads the whole log.
pub async fn count_owed(pool: &PgPool, handlers: &[String]) -> Result<Owed, StoreError> {
    let row = sqlx::query(include_str!("sql/count_owed.sql"))
        .bind(handlers)
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("count what is owed"))?;
    let counted = || Ok(Owed { registered: row.try_get("registered")?, deliveries: row.try_get("owed")? });
    counted().map_err(StoreError::query("understand what is owed"))
}

/// The names of all handlers that have a subscription.
pub async fn list_handler_names(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(include_str!("sql/list_handler_names.sql"))
        .bind(MOST_HANDLERS)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the handlers"))
}

/// Holds a handler. `false`: it is held already, or there is none of that name; then nothing is written.
pub async fn pause_handler(pool: &PgPool, name: &str, actor: &str, reason: &str) -> Result<bool, StoreError> {
    let mut transaction = begin(pool).await?;
    let paused = sqlx::query(include_str!("sql/pause_handler.sql"))
        .bind(name)
        .bind(storable(actor))
        .bind(storable(reason))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("pause the handler"))?
        .rows_affected();
    if paused == 0 {
        return Ok(false);
    }
    note(&mut transaction, "pause", name, actor, paused, Some(reason)).await?;
    commit(transaction).await?;
    Ok(true)
}

/// Lets a held handler go on. `false`: it was not held, or there is none of that name; then nothing is written.
pub async fn resume_handler(pool: &PgPool, name: &str, actor: &str) -> Result<bool, StoreError> {
    let mut transaction = begin(pool).await?;
    let resumed = sqlx::query(include_str!("sql/resume_handler.sql"))
        .bind(name)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("resume the handler"))?
        .rows_affected();
    if resumed == 0 {
        return Ok(false);
    }
    note(&mut transaction, "resume", name, actor, resumed, None).await?;
    commit(transaction).await?;
    Ok(true)
}

/// Closes the open circuits of a handler. `false`: none is open, or there is no handler of that name; then nothing is written.
pub async fn close_circuit(pool: &PgPool, name: &str, actor: &str, reason: Option<&str>) -> Result<bool, StoreError> {
    let mut transaction = begin(pool).await?;
    let closed = sqlx::query(include_str!("sql/close_circuit.sql"))
        .bind(name)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("close the circuit"))?
        .rows_affected();
    if closed == 0 {
        return Ok(false);
    }
    note(&mut transaction, "close circuit", name, actor, closed, reason).await?;
    commit(transaction).await?;
    Ok(true)
}

/// Removes a handler that no live relay owns, with its deliveries. Its events stay; retention no longer waits for it.
pub async fn forget_handler(pool: &PgPool, name: &str, actor: &str, because: Option<&str>) -> Result<Forgotten, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let rows: Vec<(i32, Option<String>)> = sqlx::query_as(include_str!("sql/lock_handler.sql"))
        .bind(name)
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::query("look at the leases of the handler"))?;
    if rows.is_empty() {
        return Ok(Forgotten::Unknown);
    }
    let (ids, owners): (Vec<i32>, Vec<Option<String>>) = rows.into_iter().unzip();
    let mut owners: Vec<String> = owners.into_iter().flatten().collect();
    owners.dedup();
    if !owners.is_empty() {
        return Ok(Forgotten::Owned(owners));
    }
    let deliveries: i64 = sqlx::query_scalar(include_str!("sql/remove_handler.sql"))
        .bind(&ids)
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("forget the handler"))?;
    let (subscriptions, deliveries) = (ids.len() as u64, deliveries.unsigned_abs());
    note(&mut transaction, "forget", name, actor, deliveries, because).await?;
    commit(transaction).await?;
    Ok(Forgotten::Gone { subscriptions, deliveries })
}

/// The audit row, and the ring that wakes the relays.
async fn note(
    connection: &mut PgConnection,
    action: &'static str,
    name: &str,
    actor: &str,
    affected: u64,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let entry = AuditEntry { actor, action, handler: Some(name), filter: "{}", affected, reason };
    record_audit(connection, &entry).await?;
    ring_control(connection).await
}
