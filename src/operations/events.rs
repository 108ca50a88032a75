//! Events: searched page by page, shown with everything that became of them, and given up at one handler.

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Caller, OperationError, RefusalKind, check_handler, refuse_projection};
use crate::domain::EventFilter;
use crate::store::events::{EventHistory, EventList, EventQuery, SEARCHED, list_events, read_history};
use crate::store::{Burial, bury_event};

/// How far back a tail looks, in numbers.
pub const TAIL: i64 = 10_000;

/// Which events a search is for; everything that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Glob over the type.
    pub event_type: Option<String>,
    /// Type and id of an aggregate.
    pub key: Option<String>,
    pub aggregate_id: Option<String>,
}

/// The result of the request to make an event a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Buried {
    pub event: Uuid,
    pub handler: String,
    /// Its state before.
    pub was: String,
}

/// The newest events that match, below a sequence number if one is given.
pub async fn list(pool: &PgPool, search: &Search, before: Option<i64>, limit: u32) -> Result<EventList, OperationError> {
    Ok(list_events(pool, &query(search, before, limit, SEARCHED)).await?)
}

/// What was recorded last, for a look every few seconds: goes back over the last 10,000 numbers only.
pub async fn tail(pool: &PgPool, search: &Search, limit: u32) -> Result<EventList, OperationError> {
    Ok(list_events(pool, &query(search, None, limit, TAIL)).await?)
}

fn query(search: &Search, before: Option<i64>, limit: u32, searched: i64) -> EventQuery {
    let Search { event_type, key, aggregate_id } = search.clone();
    let filter = EventFilter { types: event_type.into_iter().collect(), ..EventFilter::default() };
    let type_pattern = filter.type_patterns().and_then(|mut patterns| patterns.pop());
    EventQuery { type_pattern, key, aggregate_id, before, limit, searched }
}

/// One event with what became of it at every handler, and every recorded attempt.
pub async fn show(pool: &PgPool, schema: &str, id: Uuid) -> Result<EventHistory, OperationError> {
    read_history(pool, id, None).await?.ok_or_else(|| {
        let text = format!("there is no event {id} in schema \"{schema}\"; it was never committed, or retention has removed it");
        OperationError::refused(RefusalKind::NotFound, text, "outboxd events list")
    })
}

/// Makes a dead letter of an event at one handler, whether it was attempted yet or not.
pub async fn bury(
    pool: &PgPool,
    caller: &Caller,
    schema: &str,
    id: Uuid,
    handler: &str,
    reason: &str,
) -> Result<Buried, OperationError> {
    check_handler(pool, handler).await?;
    refuse_projection(pool, handler, "`outboxd projections skip` passes over an event").await?;
    let show = format!("outboxd events show {id}");
    match bury_event(pool, handler, id, caller.actor(), reason).await? {
        Burial::Buried { was } => Ok(Buried { event: id, handler: handler.to_owned(), was: was.to_string() }),
        Burial::NotOwed { state } => {
            let hint = if state == "dead" { ": it is a dead letter already" } else { ", so there is nothing to give up" };
            Err(OperationError::refused(RefusalKind::NotNow, format!("event {id} is {state} at {handler}{hint}"), show))
        }
        Burial::Unknown => {
            let text =
                format!("there is no event {id} in schema \"{schema}\" that {handler} wants; see `outboxd events show {id}`");
            Err(OperationError::refused(RefusalKind::NotFound, text, show))
        }
    }
}
