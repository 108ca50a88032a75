//! The audit: which actor did what to which deliveries or handlers, and why. Written in the transaction of the action. Never
//! changed afterwards.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use super::StoreError;
use super::text::{storable, storable_json, storable_or_none};
use crate::domain::Timestamp;

/// The party that acts, and the road it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor<'a> {
    pub name: &'a str,
    /// `cli`, `api` or `console`.
    pub via: &'static str,
}

impl<'a> Actor<'a> {
    /// A user of the command line.
    pub const fn cli(name: &'a str) -> Self {
        Self { name, via: "cli" }
    }
}

/// One act of an operator.
#[derive(Debug, Clone)]
pub struct AuditEntry<'a> {
    pub actor: Actor<'a>,
    /// One or two words for what was done, such as `replay`, `cancel_replay`, `discard` or `pause`.
    pub action: &'static str,
    pub handler: Option<&'a str>,
    /// The request, as a JSON object.
    pub filter: &'a str,
    /// How many rows it changed.
    pub affected: u64,
    pub reason: Option<&'a str>,
}

/// Notes one act.
pub async fn record_audit(connection: &mut PgConnection, entry: &AuditEntry<'_>) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/insert_audit.sql"))
        .bind(storable(entry.actor.name))
        .bind(entry.action)
        .bind(storable_or_none(entry.handler))
        .bind(storable_json(entry.filter))
        .bind(entry.affected.cast_signed())
        .bind(storable_or_none(entry.reason))
        .bind(entry.actor.via)
        .execute(connection)
        .await
        .map_err(StoreError::query("record the audit"))?;
    Ok(())
}

/// One act, as it was recorded.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct AuditRow {
    #[schema(value_type = String)]
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub handler: Option<String>,
    /// The filter of the request.
    #[schema(value_type = Object)]
    pub filter: serde_json::Value,
    pub affected: u64,
    pub reason: Option<String>,
    /// `cli`, `api` or `console`.
    pub via: String,
}

/// Which acts; every part that is set must match.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub handler: Option<String>,
    pub via: Option<String>,
    /// The last row of the page before.
    pub before: Option<i64>,
}

/// The newest acts that match, at most `limit`.
pub async fn list_audit(pool: &PgPool, query: &AuditQuery, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
    let AuditQuery { actor, action, handler, via, before } = query;
    let rows = sqlx::query(include_str!("sql/list_audit.sql"))
        .bind(actor)
        .bind(action)
        .bind(handler)
        .bind(via)
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the audit"))?;
    rows.iter().map(audit_row).collect::<Result<_, _>>().map_err(StoreError::query("understand the audit"))
}

fn audit_row(row: &PgRow) -> Result<AuditRow, sqlx::Error> {
    let filter: String = row.try_get("filter")?;
    Ok(AuditRow {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        handler: row.try_get("handler")?,
        filter: serde_json::from_str(&filter).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        affected: row.try_get::<i64, _>("affected")?.max(0).unsigned_abs(),
        reason: row.try_get("reason")?,
        via: row.try_get("via")?,
    })
}

/// Lets this transaction change the log against its own defences.
pub(super) async fn allow_log_changes(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/allow_log_changes.sql"))
        .execute(connection)
        .await
        .map_err(StoreError::query("let the log be changed"))?;
    Ok(())
}

/// Lifts the statement timeout until the end of the transaction, so that a confirmed action is not cut off half-way.
pub(super) async fn lift_statement_timeout(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/lift_statement_timeout.sql"))
        .execute(connection)
        .await
        .map_err(StoreError::query("lift the statement timeout"))?;
    Ok(())
}
