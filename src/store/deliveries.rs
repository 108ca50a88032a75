//! Deliveries that have a row: due again, waiting behind another, and the state of whole keys. Read by the owner only.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::{Room, StoreError, types};
use crate::domain::{Notification, Reason};

/// A delivery that was recorded before.
#[derive(Debug)]
pub struct RecordedDelivery {
    pub notification: Box<Notification>,
    /// Attempts spent.
    pub attempts: u32,
    /// Microseconds since the first attempt; zero if there was none.
    pub age_micros: i64,
    /// For a due one: its last attempt met a fault, which was its own.
    pub has_fault: bool,
    /// For a due one: others of its key wait behind it. For a waiting one: always true.
    pub followed: bool,
    /// For a waiting one: how many of its key wait, with it; no more are counted than one above those that were asked for.
    pub waiting: u64,
}

/// Deliveries with their events, and those whose event is gone from the log.
#[derive(Debug, Default)]
pub struct Found {
    pub deliveries: Vec<RecordedDelivery>,
    pub orphans: Vec<i64>,
}

impl Found {
    fn of(rows: &[PgRow], is_due: bool) -> Result<Self, sqlx::Error> {
        let mut found = Self::default();
        for row in rows {
            match row.try_get::<Option<uuid::Uuid>, _>("id")? {
                Some(_) => found.deliveries.push(recorded(row, is_due)?),
                None => found.orphans.push(row.try_get("seq")?),
            }
        }
        Ok(found)
    }
}

/// Deliveries whose next attempt is due, the longest due first.
pub async fn read_due(pool: &PgPool, subscription: i32, room: Room) -> Result<Found, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_due.sql"))
        .bind(subscription)
        .bind(room.rows)
        .bind(room.bytes)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the retries that are due"))?;
    Found::of(&rows, true).map_err(StoreError::query("understand the retries"))
}

/// The first waiting deliveries of each key, in order of `seq`.
pub async fn read_waiting(
    pool: &PgPool,
    subscription: i32,
    keys: &[String],
    per_key: i64,
    bytes: i64,
) -> Result<Found, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_waiting.sql"))
        .bind(subscription)
        .bind(keys)
        .bind(per_key)
        .bind(bytes)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the waiting deliveries"))?;
    Found::of(&rows, false).map_err(StoreError::query("understand the waiting deliveries"))
}

fn recorded(row: &PgRow, is_due: bool) -> Result<RecordedDelivery, sqlx::Error> {
    let (mut notification, at) = types::notification(row, 0)?;
    let attempts = row.try_get::<i32, _>(at)?.unsigned_abs();
    notification.is_replay = row.try_get(at + 1)?;
    notification.attempt = attempts + 1;
    let age_micros = row.try_get(at + 2)?;
    let (followed, waiting) =
        if is_due { (row.try_get(at + 3)?, 0) } else { (true, row.try_get::<i64, _>(at + 3)?.unsigned_abs()) };
    let has_fault = is_due && Reason::named(row.try_get(at + 4)?).is_some_and(Reason::is_fault);
    Ok(RecordedDelivery { notification, attempts, age_micros, has_fault, followed, waiting })
}

/// How long until the next retry is due; `None` if none is.
pub async fn find_next_due(pool: &PgPool, subscription: i32) -> Result<Option<Duration>, StoreError> {
    let micros: Option<i64> = sqlx::query_scalar(include_str!("sql/find_next_due.sql"))
        .bind(subscription)
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("find the next retry"))?;
    Ok(micros.map(|micros| Duration::from_micros(micros.max(0).unsigned_abs())))
}

/// One key with unfinished deliveries.
#[derive(Debug)]
pub struct RecordedLane {
    pub key: String,
    pub waiting: u64,
    /// A retry, or a dead letter that holds its key, will move it.
    pub is_blocked: bool,
}

/// Every key with unfinished deliveries; `dead_holds`: a dead letter holds its key.
pub async fn read_lanes(pool: &PgPool, subscription: i32, dead_holds: bool) -> Result<Vec<RecordedLane>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_lanes.sql"))
        .bind(subscription)
        .bind(dead_holds)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the lanes"))?;
    let lane = |row: &PgRow| {
        let waiting: i64 = row.try_get(1)?;
        Ok(RecordedLane { key: row.try_get(0)?, waiting: waiting.unsigned_abs(), is_blocked: row.try_get(2)? })
    };
    rows.iter().map(lane).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the lanes"))
}

/// Deliveries that will be attempted again: retrying and waiting.
pub async fn count_unfinished(pool: &PgPool, subscription: i32) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(include_str!("sql/count_unfinished.sql"))
        .bind(subscription)
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("count the unfinished deliveries"))?;
    Ok(count.unsigned_abs())
}
