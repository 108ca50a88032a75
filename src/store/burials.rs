//! Giving one event up on behalf of an operator: it becomes a dead letter of a handler, whether it was attempted yet or not.

use sqlx::PgPool;
use uuid::Uuid;

use super::replays::settle_replay_items;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::{ErrorGroup, Reason};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Burial {
    /// It is a dead letter now; it was in this state.
    Buried { was: String },
    /// Nothing is owed: it is in this state.
    NotOwed { state: String },
    /// There is no such event, or the handler does not want it.
    Unknown,
}

/// Makes a dead letter of an event that a handler still owes. An owner that runs begins anew with what is stored.
pub async fn bury_event(pool: &PgPool, handler: &str, event: Uuid, actor: Actor<'_>, reason: &str) -> Result<Burial, StoreError> {
    let group = ErrorGroup::of(Reason::Operator, None, reason);
    let mut transaction = begin(pool).await?;
    sqlx::query(include_str!("sql/lock_handler.sql"))
        .bind(handler)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("stop the owner of the handler"))?;
    let found: Option<(i32, i64, Option<String>, String)> = sqlx::query_as(include_str!("sql/find_owed_event.sql"))
        .bind(handler)
        .bind(event)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("find the event"))?;
    let Some((subscription, seq, key, was)) = found else { return Ok(Burial::Unknown) };
    if !matches!(was.as_str(), "pending" | "retrying" | "waiting") {
        return Ok(Burial::NotOwed { state: was });
    }
    sqlx::query(include_str!("sql/bury_event.sql"))
        .bind(subscription)
        .bind(seq)
        .bind(key)
        .bind(reason)
        .bind(group.text)
        .bind(group.fingerprint)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("make a dead letter of the event"))?;
    // It may have been part of a replay, for which it has failed again.
    settle_replay_items(&mut transaction, subscription, &[seq]).await?;
    let filter = serde_json::json!({ "ids": [event] }).to_string();
    let entry = AuditEntry { actor, action: "bury", handler: Some(handler), filter: &filter, affected: 1, reason: Some(reason) };
    record_audit(&mut transaction, &entry).await?;
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Burial::Buried { was })
}
