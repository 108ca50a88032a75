//! Ordering keys that wait behind a failed event, destinations in trouble, and letting a key go on.

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Caller, OperationError, RefusalKind, check_handler};
use crate::store::{self, BlockedKey, ListedDestination, OnlyWitness, Skipped};

/// Everything that holds events back although their handler goes on.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Blocked {
    /// The most followers first.
    pub keys: Vec<BlockedKey>,
    /// Destinations that take nothing although others of the handler do.
    pub destinations: Vec<ListedDestination>,
    /// Events by which alone an open circuit is judged.
    pub only_witnesses: Vec<OnlyWitness>,
}

/// Blocked keys and destinations of one handler or of all; of each kind at most `limit`.
pub async fn list(pool: &PgPool, handler: Option<&str>, limit: u32) -> Result<Blocked, OperationError> {
    if let Some(handler) = handler {
        check_handler(pool, handler).await?;
    }
    let keys = store::list_blocked_keys(pool, handler, limit).await?;
    let destinations = store::list_destinations(pool, handler, limit).await?;
    let only_witnesses = store::list_only_witnesses(pool, handler).await?;
    Ok(Blocked { keys, destinations, only_witnesses })
}

/// Makes a dead letter of what a key waits for, and lets its followers go on. `seen`: the event that it was seen to wait for; another one
/// is left alone.
pub async fn skip(
    pool: &PgPool,
    caller: &Caller,
    (handler, key): (&str, &str),
    seen: Option<Uuid>,
    reason: &str,
) -> Result<Skipped, OperationError> {
    check_handler(pool, handler).await?;
    store::skip_key(pool, handler, key, seen, caller.actor(), reason).await?.ok_or_else(|| {
        let what = if seen.is_some() { "waits for another event by now, or for nothing" } else { "waits for nothing" };
        let text = format!("key {key} of {handler} {what}; `outboxd keys list` shows those that do");
        OperationError::refused(RefusalKind::NotNow, text, "outboxd keys list")
    })
}
