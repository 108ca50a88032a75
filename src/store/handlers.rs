//! Handlers as operators see them: every partition taken together; paused, resumed and forgotten. A handler that a live relay
//! serves is never forgotten.

use sqlx::{PgConnection, PgPool, Row};

use super::audit::lift_statement_timeout;
use super::text::storable;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};

/// More handlers than any installation has.
const MOST_HANDLERS: i64 = 1000;

/// The result of the request to forget a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// Its subscriptions and deliveries are gone.
    Gone { subscriptions: u64, deliveries: u64 },
    /// Live relays own it; nothing was changed.
    Owned(Vec<String>),
    /// There is no such handler.
    Unknown,
}

/// The unfinished events of some handlers.
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
pub async fn pause_handler(pool: &PgPool, name: &str, actor: Actor<'_>, reason: &str) -> Result<bool, StoreError> {
    let mut transaction = begin(pool).await?;
    let paused = sqlx::query(include_str!("sql/pause_handler.sql"))
        .bind(name)
        .bind(storable(actor.name))
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
pub async fn resume_handler(pool: &PgPool, name: &str, actor: Actor<'_>) -> Result<bool, StoreError> {
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
pub async fn close_circuit(pool: &PgPool, name: &str, actor: Actor<'_>, reason: Option<&str>) -> Result<bool, StoreError> {
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
pub async fn forget_handler(pool: &PgPool, name: &str, actor: Actor<'_>, because: Option<&str>) -> Result<Forgotten, StoreError> {
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
    actor: Actor<'_>,
    affected: u64,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let entry = AuditEntry { actor, action, handler: Some(name), filter: "{}", affected, reason };
    record_audit(connection, &entry).await?;
    ring_control(connection).await
}
