//! The audit: which actor did what to which deliveries or handlers, and why. Written in the transaction of the action. Never
//! changed afterwards.

use sqlx::PgConnection;

use super::StoreError;
use super::text::{storable, storable_json, storable_or_none};

/// One act of an operator.
#[derive(Debug, Clone)]
pub struct AuditEntry<'a> {
    pub actor: &'a str,
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
        .bind(storable(entry.actor))
        .bind(entry.action)
        .bind(storable_or_none(entry.handler))
        .bind(storable_json(entry.filter))
        .bind(entry.affected.cast_signed())
        .bind(storable_or_none(entry.reason))
        .execute(connection)
        .await
        .map_err(StoreError::query("record the audit"))?;
    Ok(())
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
