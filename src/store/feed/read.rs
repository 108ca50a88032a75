//! Reading by place: the bounds of the feed, the next page of it, and places by id and by time. Changes nothing.

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};
use uuid::Uuid;

use crate::domain::{Notification, Timestamp};
use crate::store::{StoreError, types};

/// The feed at one moment, and the event at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroundRow {
    pub head: i64,
    pub removed_place: i64,
    pub removed_event: Option<Uuid>,
    pub removed_at: Option<Timestamp>,
    pub event: Option<Uuid>,
    /// Id and the place after which it began, in the order in which they began.
    pub epochs: Vec<(Uuid, i64)>,
}

/// Reads what is known of the feed now, and which event has a place.
pub async fn read_ground(executor: impl PgExecutor<'_>, place: i64) -> Result<GroundRow, StoreError> {
    let row = sqlx::query(include_str!("../sql/read_feed_ground.sql"))
        .bind(place)
        .fetch_one(executor)
        .await
        .map_err(StoreError::query("read the state of the feed"))?;
    ground(&row).map_err(StoreError::query("understand the state of the feed"))
}

fn ground(row: &PgRow) -> Result<GroundRow, sqlx::Error> {
    let (ids, began): (Vec<Uuid>, Vec<i64>) = (row.try_get("epochs")?, row.try_get("began_after")?);
    Ok(GroundRow {
        head: row.try_get("head")?,
        removed_place: row.try_get("removed_place")?,
        removed_event: row.try_get("removed_event")?,
        removed_at: row.try_get("removed_at")?,
        event: row.try_get("event")?,
        epochs: ids.into_iter().zip(began).collect(),
    })
}

/// The bounds of a page, and its filter.
#[derive(Debug, Clone)]
pub struct PageQuery<'a> {
    pub after: i64,
    /// Places that are looked at.
    pub span: i64,
    /// Places of the wanted types whose events are looked up.
    pub lookups: i64,
    pub events: i64,
    /// Bytes of payloads; one event may be larger.
    pub bytes: i64,
    /// Lists of LIKE patterns, all of which must let a type through; `None`: every type.
    pub types: [Option<&'a [String]>; 3],
    /// Headers that an event must have.
    pub headers: Option<&'a serde_json::Value>,
    pub aggregate_id: Option<&'a str>,
}

/// A page, and how far it goes.
#[derive(Debug)]
pub struct FeedPage {
    /// The last place that was given, when this was read.
    pub head: i64,
    pub removed_place: i64,
    /// The newest epoch; `None`: no place was ever given.
    pub epoch: Option<Uuid>,
    /// Everything up to this place that is wanted is in this page.
    pub reached: i64,
    pub events: Vec<PlacedEvent>,
}

/// An event and its place.
#[derive(Debug)]
pub struct PlacedEvent {
    pub place: i64,
    pub event: Box<Notification>,
    /// Why the server cannot read it out. The event then lacks its payload, and perhaps headers and aggregate.
    pub damage: Option<String>,
}

/// Reads the next page.
pub async fn read_page(executor: impl PgExecutor<'_>, query: &PageQuery<'_>) -> Result<FeedPage, StoreError> {
    let rows = sqlx::query(include_str!("../sql/read_feed_page.sql"))
        .bind(query.after)
        .bind(query.span)
        .bind(query.lookups)
        .bind(query.events)
        .bind(query.bytes)
        .bind(query.types[0])
        .bind(query.types[1])
        .bind(query.types[2])
        .bind(query.headers)
        .bind(query.aggregate_id)
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("read a page of the feed"))?;
    page(&rows, query).map_err(StoreError::query("understand a page of the feed"))
}

fn page(rows: &[PgRow], query: &PageQuery<'_>) -> Result<FeedPage, sqlx::Error> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (head, scanned): (i64, i64) = (first.try_get("head")?, first.try_get("scanned")?);
    let is_empty = first.try_get::<Option<i64>, _>(PLACE)?.is_none();
    let mut events = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|_| !is_empty) {
        events.push(PlacedEvent { place: row.try_get(PLACE)?, event: types::notification(row, PLACE + 1)?.0, damage: None });
    }
    let bytes: i64 = if is_empty { 0 } else { rows[rows.len() - 1].try_get("bytes_after")? };
    let is_full = events.len() as i64 >= query.events || bytes >= query.bytes;
    // Never beyond what was looked at: a client that goes on from there has missed nothing.
    let reached = match events.last() {
        Some(last) if is_full => last.place,
        _ if scanned >= query.lookups => first.try_get("scanned_to")?,
        _ => (query.after + query.span).min(head).max(query.after),
    };
    Ok(FeedPage { head, removed_place: first.try_get("removed_place")?, epoch: first.try_get("epoch")?, reached, events })
}

/// Where the place stands in a row of a page; the columns of the event follow it.
const PLACE: usize = 5;

/// The last place that was given.
pub async fn read_head(executor: impl PgExecutor<'_>) -> Result<i64, StoreError> {
    sqlx::query_scalar(include_str!("../sql/read_feed_head.sql"))
        .fetch_one(executor)
        .await
        .map_err(StoreError::query("read the end of the feed"))
}

/// The place of an event, if its type passes both lists of patterns and it has these headers.
pub async fn find_event(
    executor: impl PgExecutor<'_>,
    id: Uuid,
    types: [Option<&[String]>; 2],
    headers: Option<&serde_json::Value>,
) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar(include_str!("../sql/find_feed_event.sql"))
        .bind(id)
        .bind(types[0])
        .bind(types[1])
        .bind(headers)
        .fetch_optional(executor)
        .await
        .map_err(StoreError::query("find the place of an event"))
}

/// Places before the one that a search finds which are looked at: within one window of the publisher, times are mixed.
const LOOK_BACK: i64 = 10_000;

/// A place behind which every event lies that was committed after `time`, as far as the relays have noted.
pub async fn find_time(executor: impl PgExecutor<'_>, time: Timestamp) -> Result<i64, StoreError> {
    sqlx::query_scalar(include_str!("../sql/find_feed_time.sql"))
        .bind(time)
        .bind(LOOK_BACK)
        .fetch_one(executor)
        .await
        .map_err(StoreError::query("find the place of a time"))
}
