//! Everything recorded about one event: itself, what became of it in each handler, and the attempts. For people; reads only.

use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::StoreError;
use crate::domain::Timestamp;

/// An event as it was recorded. Payload and headers are the text itself: parsing would lose what a float cannot hold.
#[derive(Debug, serde::Serialize)]
pub struct EventRow {
    pub id: Uuid,
    pub seq: i64,
    #[serde(rename = "type")]
    pub event_type: String,
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    pub aggregate_version: Option<i64>,
    pub occurred_at: Timestamp,
    pub headers: Box<RawValue>,
    pub payload: Box<RawValue>,
}

/// What became of an event in one handler.
#[derive(Debug, serde::Serialize)]
pub struct EventDelivery {
    #[serde(skip)]
    pub subscription: i32,
    pub handler: String,
    pub partition: i32,
    /// A word of `domain::DeliveryState`.
    pub state: String,
    pub attempts: i32,
    pub status: Option<i32>,
    pub key: Option<String>,
    pub reason: Option<String>,
    pub detail: Option<String>,
    pub due_at: Option<Timestamp>,
    pub first_attempt_at: Option<Timestamp>,
    pub handled_at: Option<Timestamp>,
    /// The replay that it was last part of.
    pub replay: Option<Uuid>,
}

/// One try that did not succeed at once.
#[derive(Debug, serde::Serialize)]
pub struct AttemptRow {
    pub at: Timestamp,
    pub attempt: i32,
    pub duration_ms: i32,
    pub status: Option<i32>,
    /// The receiver may have the event.
    pub ambiguous: bool,
    pub outcome: String,
    pub reason: String,
    pub detail: Option<String>,
    pub instance: Option<String>,
}

/// One event by its id; `None`: it never was, or retention has removed it.
pub async fn read_event(pool: &PgPool, id: Uuid) -> Result<Option<EventRow>, StoreError> {
    let row = sqlx::query(include_str!("sql/read_event_row.sql"))
        .bind(id)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("read the event"))?;
    row.as_ref().map(event).transpose().map_err(StoreError::query("understand the event"))
}

fn event(row: &PgRow) -> Result<EventRow, sqlx::Error> {
    let raw = |column: &str| {
        RawValue::from_string(row.try_get::<String, _>(column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    Ok(EventRow {
        id: row.try_get("id")?,
        seq: row.try_get("seq")?,
        event_type: row.try_get("type")?,
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        aggregate_version: row.try_get("aggregate_version")?,
        occurred_at: row.try_get("occurred_at")?,
        headers: raw("headers")?,
        payload: raw("payload")?,
    })
}

/// What became of an event in every handler that has a row of it, or in the one that is named.
pub async fn read_event_deliveries(pool: &PgPool, seq: i64, handler: Option<&str>) -> Result<Vec<EventDelivery>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_event_deliveries.sql"))
        .bind(seq)
        .bind(handler)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the deliveries of the event"))?;
    rows.iter().map(delivery).collect::<Result<_, _>>().map_err(StoreError::query("understand the deliveries"))
}

fn delivery(row: &PgRow) -> Result<EventDelivery, sqlx::Error> {
    Ok(EventDelivery {
        subscription: row.try_get("subscription")?,
        handler: row.try_get("handler")?,
        partition: row.try_get("partition")?,
        state: row.try_get("state")?,
        attempts: row.try_get("attempts")?,
        status: row.try_get("status")?,
        key: row.try_get("key")?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        due_at: row.try_get("due_at")?,
        first_attempt_at: row.try_get("first_attempt_at")?,
        handled_at: row.try_get("handled_at")?,
        replay: row.try_get("replay")?,
    })
}

/// The newest attempts at one delivery in order, at most `limit`.
pub async fn read_attempts(pool: &PgPool, subscription: i32, seq: i64, limit: u32) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_attempts.sql"))
        .bind(subscription)
        .bind(seq)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the attempts"))?;
    rows.iter().map(attempt).collect::<Result<_, _>>().map_err(StoreError::query("understand the attempts"))
}

fn attempt(row: &PgRow) -> Result<AttemptRow, sqlx::Error> {
    Ok(AttemptRow {
        at: row.try_get("at")?,
        attempt: row.try_get("attempt")?,
        duration_ms: row.try_get("duration_ms")?,
        status: row.try_get("status")?,
        ambiguous: row.try_get("ambiguous")?,
        outcome: row.try_get("outcome")?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        instance: row.try_get("instance")?,
    })
}
