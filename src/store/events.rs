//! Events for operators: one with everything that became of it, or the newest ones. Payloads and headers stay text from the
//! database to the reader: numbers beyond 2^53 must come out as they went in.

use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::StoreError;
use super::remains::Remains;
use crate::domain::Timestamp;

/// How far back from the newest event a list is searched, in numbers.
pub const SEARCHED: i64 = 100_000;

/// More tries than a delivery keeps, for all handlers together.
const MAX_ATTEMPTS: i64 = 1_000;

/// One event, what became of it per handler, and every recorded try.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct EventHistory {
    pub event: Event,
    /// By handler and partition. A handler that does not want the event is not in it.
    pub handlers: Vec<EventState>,
    /// The oldest first. A success at the first attempt leaves none.
    pub attempts: Vec<Attempt>,
}

/// An event as it was recorded.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Event {
    #[schema(value_type = String)]
    pub seq: i64,
    pub id: Uuid,
    #[serde(rename = "type")]
    pub event_type: String,
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    #[schema(value_type = Option<String>)]
    pub aggregate_version: Option<i64>,
    pub occurred_at: Timestamp,
    #[schema(value_type = Object)]
    pub headers: Box<RawValue>,
    /// Byte for byte.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
    /// Why headers, payload or aggregate cannot be read: what cannot is null here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// The delivery of an event to one handler.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct EventState {
    pub handler: String,
    pub partition: i32,
    /// A state of a delivery, or `pending`, or `passed`.
    pub state: String,
    /// `None`: there is no row of its own.
    pub attempts: Option<i32>,
    pub key: Option<String>,
    pub first_attempt_at: Option<Timestamp>,
    pub due_at: Option<Timestamp>,
    #[serde(skip)]
    pub due_in: Option<Duration>,
    pub reason: Option<String>,
    pub status: Option<i32>,
    pub detail: Option<String>,
    pub handled_at: Option<Timestamp>,
    /// The replay that it was last part of.
    pub replay: Option<Uuid>,
}

/// One recorded try.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Attempt {
    pub at: Timestamp,
    pub handler: String,
    pub partition: i32,
    pub attempt: i32,
    pub outcome: String,
    pub reason: String,
    pub status: Option<i32>,
    /// The receiver may have the event all the same.
    pub ambiguous: bool,
    pub duration_ms: i32,
    pub detail: Option<String>,
    pub instance: Option<String>,
}

/// An event in a list, without what may be large.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct EventSummary {
    #[schema(value_type = String)]
    pub seq: i64,
    pub id: Uuid,
    #[serde(rename = "type")]
    pub event_type: String,
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    #[schema(value_type = Option<String>)]
    pub aggregate_version: Option<i64>,
    pub occurred_at: Timestamp,
    pub payload_bytes: i32,
}

/// The selection of a list.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// LIKE pattern; see `EventFilter::type_patterns`.
    pub type_pattern: Option<String>,
    pub aggregate_id: Option<String>,
    /// Type and id of an aggregate, as [`crate::domain::Ordering::Aggregate`] makes a key of them.
    pub key: Option<String>,
    /// Only events below this number.
    pub before: Option<i64>,
    pub limit: u32,
    /// How far back a list is searched, in numbers; [`SEARCHED`] unless a shorter look is enough.
    pub searched: i64,
}

/// The newest events that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct EventList {
    /// The newest first.
    pub events: Vec<EventSummary>,
    /// There are older events that were not looked at.
    pub is_cut_short: bool,
    /// A list of what is older goes on below this number; `None`: nothing is older.
    #[serde(skip)]
    pub goes_on_below: Option<i64>,
}

/// Reads one event and all that is known of it, in every handler or in the one that is named. `None`: there is no such event
/// (any more).
pub async fn read_history(pool: &PgPool, id: Uuid, handler: Option<&str>) -> Result<Option<EventHistory>, StoreError> {
    let Some(event) = read_event(pool, id).await? else { return Ok(None) };
    let (handlers, attempts) = (read_states(pool, id, handler).await?, list_attempts(pool, event.seq, handler).await?);
    Ok(Some(EventHistory { event, handlers, attempts }))
}

/// Reads one event by its id; of a damaged one what is left of it.
pub async fn read_event(pool: &PgPool, id: Uuid) -> Result<Option<Event>, StoreError> {
    let mut remains = Remains::default();
    loop {
        match try_event(pool, id, &remains).await {
            Ok(found) => return Ok(found.map(|event| Event { damage: remains.damage, ..event })),
            Err(error) => remains.leave_out_more(error)?,
        }
    }
}

async fn try_event(pool: &PgPool, id: Uuid, remains: &Remains) -> Result<Option<Event>, StoreError> {
    let row = sqlx::query(include_str!("sql/read_event.sql"))
        .bind(id)
        .bind(remains.left_out())
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("read the event"))?;
    row.as_ref().map(event).transpose().map_err(StoreError::query("understand the event"))
}

/// Lists the newest events, as far back as the query says.
pub async fn list_events(pool: &PgPool, query: &EventQuery) -> Result<EventList, StoreError> {
    let last = sqlx::query_scalar(include_str!("sql/read_last_seq.sql")).fetch_one(pool);
    let newest: i64 = match query.before {
        Some(before) => before.saturating_sub(1).max(0),
        None => last.await.map_err(StoreError::query("read the sequence"))?,
    };
    let rows = sqlx::query(include_str!("sql/list_events.sql"))
        .bind(&query.type_pattern)
        .bind(&query.aggregate_id)
        .bind(i64::from(query.limit))
        .bind(query.searched)
        .bind(newest)
        .bind(&query.key)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the events"))?;
    let events: Vec<_> = rows.iter().map(summary).collect::<Result<_, _>>().map_err(StoreError::query("understand the events"))?;
    let is_full = u32::try_from(events.len()).is_ok_and(|found| found >= query.limit);
    let is_cut_short = newest > query.searched && !is_full;
    let last = events.last().map(|event: &EventSummary| event.seq);
    let goes_on_below = if is_full { last.filter(|last| *last > 1) } else { is_cut_short.then_some(newest - query.searched + 1) };
    Ok(EventList { events, is_cut_short, goes_on_below })
}

fn event(row: &PgRow) -> Result<Event, sqlx::Error> {
    let raw = |column: usize| RawValue::from_string(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    Ok(Event {
        seq: row.try_get(0)?,
        id: row.try_get(1)?,
        event_type: row.try_get(2)?,
        aggregate_type: row.try_get(3)?,
        aggregate_id: row.try_get(4)?,
        aggregate_version: row.try_get(5)?,
        occurred_at: row.try_get(6)?,
        headers: raw(7)?,
        payload: raw(8)?,
        damage: None,
    })
}

fn summary(row: &PgRow) -> Result<EventSummary, sqlx::Error> {
    Ok(EventSummary {
        seq: row.try_get(0)?,
        id: row.try_get(1)?,
        event_type: row.try_get(2)?,
        aggregate_type: row.try_get(3)?,
        aggregate_id: row.try_get(4)?,
        aggregate_version: row.try_get(5)?,
        occurred_at: row.try_get(6)?,
        payload_bytes: row.try_get(7)?,
    })
}

async fn read_states(pool: &PgPool, id: Uuid, handler: Option<&str>) -> Result<Vec<EventState>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_event_states.sql"))
        .bind(id)
        .bind(handler)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read what became of the event"))?;
    let state = |row: &PgRow| {
        Ok(EventState {
            handler: row.try_get(0)?,
            partition: row.try_get(1)?,
            state: row.try_get(2)?,
            attempts: row.try_get(3)?,
            key: row.try_get(4)?,
            first_attempt_at: row.try_get(5)?,
            due_at: row.try_get(6)?,
            due_in: row.try_get::<Option<i64>, _>(7)?.map(|micros| Duration::from_micros(micros.max(0).unsigned_abs())),
            reason: row.try_get(8)?,
            status: row.try_get(9)?,
            detail: row.try_get(10)?,
            handled_at: row.try_get(11)?,
            replay: row.try_get(12)?,
        })
    };
    rows.iter().map(state).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand what became of the event"))
}

async fn list_attempts(pool: &PgPool, seq: i64, handler: Option<&str>) -> Result<Vec<Attempt>, StoreError> {
    let rows = sqlx::query(include_str!("sql/list_attempts.sql"))
        .bind(seq)
        .bind(MAX_ATTEMPTS)
        .bind(handler)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the attempts"))?;
    let attempt = |row: &PgRow| {
        Ok(Attempt {
            at: row.try_get(0)?,
            handler: row.try_get(1)?,
            partition: row.try_get(2)?,
            attempt: row.try_get(3)?,
            outcome: row.try_get(4)?,
            reason: row.try_get(5)?,
            status: row.try_get(6)?,
            ambiguous: row.try_get(7)?,
            duration_ms: row.try_get(8)?,
            detail: row.try_get(9)?,
            instance: row.try_get(10)?,
        })
    };
    rows.iter().map(attempt).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the attempts"))
}
