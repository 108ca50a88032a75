//! Blocked keys: ordering keys that wait behind a delivery that failed, and how an operator lets one of them go on.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::replays::settle_replay_items;
use super::text::storable;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::{ErrorGroup, Reason, Timestamp};

/// A key whose later events wait.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct BlockedKey {
    pub handler: String,
    pub partition: i32,
    pub key: String,
    /// The event that they wait for.
    pub head: Uuid,
    #[serde(rename = "type")]
    pub event_type: String,
    /// `retrying`: it will be tried again at `due_at`. `dead`: an operator has to decide.
    pub state: String,
    pub attempts: i32,
    pub reason: Option<String>,
    pub status: Option<i32>,
    pub detail: Option<String>,
    pub due_at: Option<Timestamp>,
    /// When it was first attempted.
    pub since: Option<Timestamp>,
    /// Deliveries that wait behind it; what the handler has not read yet is not among them.
    pub followers: u64,
}

/// An event by which alone an open circuit is judged.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct OnlyWitness {
    pub handler: String,
    pub key: Option<String>,
    pub event: Uuid,
    pub reason: Option<String>,
}

/// The events by which alone an open circuit is judged.
pub async fn list_only_witnesses(pool: &PgPool, handler: Option<&str>) -> Result<Vec<OnlyWitness>, StoreError> {
    let rows: Vec<(String, Option<String>, Uuid, Option<String>)> = sqlx::query_as(include_str!("sql/list_only_witnesses.sql"))
        .bind(handler)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the events that circuits are judged by"))?;
    Ok(rows.into_iter().map(|(handler, key, event, reason)| OnlyWitness { handler, key, event, reason }).collect())
}

/// The result of letting a key go on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Skipped {
    /// The event that is a dead letter now.
    pub head: Uuid,
    /// Its previous state: `retrying` or `dead`.
    pub was: String,
}

/// The blocked keys with the most followers, at most `limit`.
pub async fn list_blocked_keys(pool: &PgPool, handler: Option<&str>, limit: u32) -> Result<Vec<BlockedKey>, StoreError> {
    let rows = sqlx::query(include_str!("sql/list_blocked_keys.sql"))
        .bind(handler)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the blocked keys"))?;
    rows.iter().map(blocked_key).collect::<Result<_, _>>().map_err(StoreError::query("understand the blocked keys"))
}

fn blocked_key(row: &PgRow) -> Result<BlockedKey, sqlx::Error> {
    Ok(BlockedKey {
        handler: row.try_get("handler")?,
        partition: row.try_get("partition")?,
        key: row.try_get("key")?,
        head: row.try_get("id")?,
        event_type: row.try_get("type")?,
        state: row.try_get("state")?,
        attempts: row.try_get("attempts")?,
        reason: row.try_get("reason")?,
        status: row.try_get("status")?,
        detail: row.try_get("detail")?,
        due_at: row.try_get("due_at")?,
        since: row.try_get("since")?,
        followers: row.try_get::<i64, _>("followers")?.unsigned_abs(),
    })
}

/// The event that the later events of a key wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHead {
    pub event: Uuid,
    /// `retrying`, or `dead` and holding its key.
    pub state: String,
    pub reason: Option<String>,
    pub status: Option<i32>,
    pub due_at: Option<Timestamp>,
    pub handled_at: Option<Timestamp>,
    /// Deliveries that wait behind it, counted up to [`MOST_FOLLOWERS`].
    pub followers: u64,
}

/// Followers of a key that are counted, at most.
pub const MOST_FOLLOWERS: i64 = 10_000;

/// The event that blocks a key of a handler. `None`: the key is not blocked.
pub async fn find_key_head(pool: &PgPool, handler: &str, partition: i32, key: &str) -> Result<Option<KeyHead>, StoreError> {
    let row = sqlx::query(include_str!("sql/find_key_head.sql"))
        .bind(handler)
        .bind(partition)
        .bind(key)
        .bind(MOST_FOLLOWERS)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("find what a key waits for"))?;
    let head = |row: &PgRow| {
        Ok(KeyHead {
            event: row.try_get("id")?,
            state: row.try_get("state")?,
            reason: row.try_get("reason")?,
            status: row.try_get("status")?,
            due_at: row.try_get("due_at")?,
            handled_at: row.try_get("handled_at")?,
            followers: row.try_get::<i64, _>("followers")?.unsigned_abs(),
        })
    };
    row.as_ref().map(head).transpose().map_err(|error: sqlx::Error| StoreError::query("understand what a key waits for")(error))
}

/// Makes a dead letter of what a key waits for, and lets its followers go on. `seen`: the event that it was seen to wait for.
/// `None`: the key waits for nothing, or for another event.
pub async fn skip_key(
    pool: &PgPool,
    handler: &str,
    key: &str,
    seen: Option<Uuid>,
    actor: Actor<'_>,
    reason: &str,
) -> Result<Option<Skipped>, StoreError> {
    let group = ErrorGroup::of(Reason::Operator, None, reason);
    let mut transaction = begin(pool).await?;
    let row = sqlx::query(include_str!("sql/skip_key.sql"))
        .bind(handler)
        .bind(key)
        .bind(storable(reason))
        .bind(storable(&group.text))
        .bind(group.fingerprint)
        .bind(seen)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("skip what the key waits for"))?;
    let Some(row) = row else { return Ok(None) };
    let understood = |row: &PgRow| {
        Ok::<_, sqlx::Error>((Skipped { head: row.try_get(0)?, was: row.try_get(1)? }, row.try_get(2)?, row.try_get(3)?))
    };
    let (skipped, subscription, seq) = understood(&row).map_err(StoreError::query("understand what was skipped"))?;
    // It may have been part of a replay, for which it has failed again.
    settle_replay_items(&mut transaction, subscription, &[seq]).await?;
    let filter = serde_json::json!({ "key": key, "ids": [skipped.head] }).to_string();
    let entry =
        AuditEntry { actor, action: "skip_key", handler: Some(handler), filter: &filter, affected: 1, reason: Some(reason) };
    record_audit(&mut transaction, &entry).await?;
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Some(skipped))
}
