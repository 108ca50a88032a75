//! How far handlers are with one event, for a caller that waits until it is handled.

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};
use uuid::Uuid;

use crate::domain::{Stage, Timestamp};
use crate::store::StoreError;

/// How far one handler is with one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerProgress {
    pub handler: String,
    /// False: its filter lets the event pass by.
    pub is_wanted: bool,
    /// The position has passed the event: without a row nothing is owed.
    pub has_passed: bool,
    /// Of its delivery, if there is a row: `retrying`, `waiting`, `dead`, `discarded` or `delivered`.
    pub state: Option<String>,
    pub attempts: Option<i32>,
    pub reason: Option<String>,
    pub due_at: Option<Timestamp>,
    pub is_paused: bool,
    /// The circuit of the handler is not closed.
    pub is_held: bool,
}

/// How far a handler is, among those that were found. One without a subscription has never been served, and its filter is unknown.
pub fn stage_of(handler: &str, found: &[HandlerProgress]) -> Stage {
    let progress = found.iter().find(|progress| progress.handler == handler);
    progress.map_or(Stage::Pending, |progress| Stage::judge(progress.state.as_deref(), progress.is_wanted, progress.has_passed))
}

/// Reads how far these handlers are with an event, if its type passes both lists of patterns and it has these headers. Handlers without a
/// subscription are left out. `None`: there is no such event, or its transaction has not committed.
pub async fn read_event_progress(
    executor: impl PgExecutor<'_>,
    id: Uuid,
    types: [Option<&[String]>; 2],
    headers: Option<&serde_json::Value>,
    handlers: &[String],
) -> Result<Option<Vec<HandlerProgress>>, StoreError> {
    let rows = sqlx::query(include_str!("../sql/read_event_progress.sql"))
        .bind(id)
        .bind(types[0])
        .bind(types[1])
        .bind(headers)
        .bind(handlers)
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("read how far handlers are with an event"))?;
    if rows.is_empty() {
        return Ok(None);
    }
    let found = rows.iter().filter_map(|row| progress(row).transpose()).collect::<Result<_, _>>();
    found.map(Some).map_err(StoreError::query("understand how far handlers are with an event"))
}

fn progress(row: &PgRow) -> Result<Option<HandlerProgress>, sqlx::Error> {
    let Some(handler) = row.try_get("handler")? else { return Ok(None) };
    Ok(Some(HandlerProgress {
        handler,
        is_wanted: row.try_get("is_wanted")?,
        has_passed: row.try_get("has_passed")?,
        state: row.try_get("state")?,
        attempts: row.try_get("attempts")?,
        reason: row.try_get("reason")?,
        due_at: row.try_get("due_at")?,
        is_paused: row.try_get("is_paused")?,
        is_held: row.try_get("is_held")?,
    }))
}
