//! Handlers, every partition taken together: listed with one state and one backlog, held, let go, and their circuits closed.

use serde::Serialize;
use sqlx::PgPool;

use super::{Caller, OperationError, RefusalKind, check_handler};
use crate::domain::Timestamp;
use crate::status::{HandlerState, handler_state};
use crate::store;
use crate::store::status::{Counting, HandlerStats, read_handler_stats, read_stats};

/// A handler with all its partitions.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct HandlerView {
    pub name: String,
    pub kind: String,
    /// As in `status`.
    pub state: HandlerState,
    pub partitions: usize,
    /// Partitions with a live lease, and who has them.
    pub owned: usize,
    pub owners: Vec<String>,
    pub paused_at: Option<Timestamp>,
    pub paused_by: Option<String>,
    pub pause_reason: Option<String>,
    pub open_circuits: usize,
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

/// The result of an act on a handler.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct HandlerChange {
    /// `false`: the handler was in that state already.
    pub changed: bool,
    /// As it is now; `None`: it is gone.
    pub handler: Option<HandlerView>,
}

impl From<HandlerStats> for HandlerView {
    fn from(stats: HandlerStats) -> Self {
        let state = handler_state(&stats);
        let (paused_at, paused_by, pause_reason) = match stats.paused {
            Some(paused) => (Some(paused.since), paused.by, paused.reason),
            None => (None, None, None),
        };
        let failing = stats.failing.map(|failing| (failing.since, failing.error)).unzip();
        Self {
            name: stats.handler,
            kind: stats.kind,
            state,
            partitions: stats.partitions,
            owned: stats.owned,
            owners: stats.live_owners,
            paused_at,
            paused_by,
            pause_reason,
            open_circuits: stats.open_circuits,
            circuit_reason: stats.circuit.and_then(|circuit| circuit.reason),
            failing_since: failing.0,
            failing_error: failing.1,
            waiting_until: stats.waiting_until.map(|waiting| waiting.until),
            pending: stats.pending,
            pending_is_exact: stats.pending_is_exact,
            uncounted: stats.uncounted,
            retrying: stats.retrying,
            waiting: stats.waiting,
            dead: stats.dead,
        }
    }
}

/// Every handler that has a subscription, by name.
pub async fn list(pool: &PgPool) -> Result<Vec<HandlerView>, OperationError> {
    Ok(read_stats(pool, Counting::All).await?.handlers.into_iter().map(HandlerView::from).collect())
}

/// One handler; a name that the database does not know is refused.
pub async fn show(pool: &PgPool, name: &str) -> Result<HandlerView, OperationError> {
    check_handler(pool, name).await?;
    find(pool, name).await?.ok_or_else(|| gone(name))
}

/// One handler. `None`: there is none of that name.
pub async fn find(pool: &PgPool, name: &str) -> Result<Option<HandlerView>, OperationError> {
    Ok(read_handler_stats(pool, name).await?.map(HandlerView::from))
}

/// Holds a handler: its events wait in the log.
pub async fn pause(pool: &PgPool, caller: &Caller, name: &str, reason: &str) -> Result<HandlerChange, OperationError> {
    check_handler(pool, name).await?;
    let changed = store::pause_handler(pool, name, caller.actor(), reason).await?;
    Ok(HandlerChange { changed, handler: find(pool, name).await? })
}

/// Lets a held handler go on.
pub async fn resume(pool: &PgPool, caller: &Caller, name: &str) -> Result<HandlerChange, OperationError> {
    check_handler(pool, name).await?;
    let changed = store::resume_handler(pool, name, caller.actor()).await?;
    Ok(HandlerChange { changed, handler: find(pool, name).await? })
}

/// Closes the open circuits of a handler: deliveries go on at once.
pub async fn close_circuit(
    pool: &PgPool,
    caller: &Caller,
    name: &str,
    reason: Option<&str>,
) -> Result<HandlerChange, OperationError> {
    check_handler(pool, name).await?;
    let changed = store::close_circuit(pool, name, caller.actor(), reason).await?;
    Ok(HandlerChange { changed, handler: find(pool, name).await? })
}

/// For a handler that was removed meanwhile.
pub fn gone(name: &str) -> OperationError {
    let text = format!("handler \"{name}\" is already gone; another command has removed it meanwhile");
    OperationError::refused(RefusalKind::NotNow, text, "outboxd handlers list")
}

/// Of a handler that a relay serves.
pub fn still_owned(name: &str, owners: &[String]) -> OperationError {
    let owners = owners.join(", ");
    let text = format!("handler \"{name}\" is served by {owners}; take it out of the configuration and run `outboxd reload` first");
    OperationError::refused(RefusalKind::NotNow, text, "outboxd reload")
}
