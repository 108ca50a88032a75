//! Deliveries that have a row: due again, waiting behind another, and the state of whole keys. Only the owner of the subscription
//! reads them.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::{Room, StoreError, Unreadable, types};
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

/// The result of reading recorded deliveries.
#[derive(Debug, Default)]
pub struct RecordedRead {
    pub rows: Vec<RecordedDelivery>,
    /// Deliveries whose events cannot be read.
    pub unreadable: Vec<UnreadableDelivery>,
    /// Deliveries whose event is gone from the log.
    pub orphans: Vec<i64>,
}

/// A recorded delivery whose event cannot be read.
#[derive(Debug)]
pub struct UnreadableDelivery {
    pub unreadable: Unreadable,
    /// Attempts spent.
    pub attempts: u32,
}

/// Deliveries whose next attempt is due, the longest due first, without those that are `known`. Where one of them cannot be read there are
/// fewer, until it is the first.
pub async fn read_due(pool: &PgPool, subscription: i32, room: Room, known: &[i64]) -> Result<RecordedRead, StoreError> {
    let mut rows = room.rows;
    loop {
        match try_due(pool, subscription, Room { rows, ..room }, known).await {
            Err(error) if error.is_about_data() && rows > 1 => rows /= 2,
            Err(error) if error.is_about_data() => {
                let found = sqlx::query(include_str!("sql/find_unread_due.sql")).bind(subscription).bind(known);
                let found = found.fetch_optional(pool).await;
                return unread(found, error);
            }
            read => return read,
        }
    }
}

async fn try_due(pool: &PgPool, subscription: i32, room: Room, known: &[i64]) -> Result<RecordedRead, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_due.sql"))
        .bind(subscription)
        .bind(room.rows)
        .bind(room.bytes)
        .bind(known)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the retries that are due"))?;
    recorded_all(&rows, true).map_err(StoreError::query("understand the retries"))
}

/// The first waiting deliveries of each key, in order of `seq`. Where one of them cannot be read, what comes before it.
pub async fn read_waiting(
    pool: &PgPool,
    subscription: i32,
    keys: &[String],
    per_key: i64,
    bytes: i64,
) -> Result<RecordedRead, StoreError> {
    match try_waiting(pool, subscription, keys, per_key, bytes).await {
        Err(error) if error.is_about_data() => {}
        read => return read,
    }
    let mut all = RecordedRead::default();
    for key in keys {
        let read = read_waiting_of(pool, subscription, key, per_key, bytes).await?;
        all.rows.extend(read.rows);
        all.unreadable.extend(read.unreadable);
        all.orphans.extend(read.orphans);
    }
    Ok(all)
}

async fn read_waiting_of(
    pool: &PgPool,
    subscription: i32,
    key: &String,
    most: i64,
    bytes: i64,
) -> Result<RecordedRead, StoreError> {
    let mut rows = most;
    loop {
        match try_waiting(pool, subscription, std::slice::from_ref(key), rows, bytes).await {
            Err(error) if error.is_about_data() && rows > 1 => rows /= 2,
            Err(error) if error.is_about_data() => {
                let find = sqlx::query(include_str!("sql/find_unread_waiting.sql")).bind(subscription).bind(key);
                return unread(find.fetch_optional(pool).await, error);
            }
            read => return read,
        }
    }
}

async fn try_waiting(
    pool: &PgPool,
    subscription: i32,
    keys: &[String],
    per_key: i64,
    bytes: i64,
) -> Result<RecordedRead, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_waiting.sql"))
        .bind(subscription)
        .bind(keys)
        .bind(per_key)
        .bind(bytes)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the waiting deliveries"))?;
    recorded_all(&rows, false).map_err(StoreError::query("understand the waiting deliveries"))
}

/// The delivery that a read of one row failed on.
fn unread(found: Result<Option<PgRow>, sqlx::Error>, error: StoreError) -> Result<RecordedRead, StoreError> {
    let found = found.map_err(StoreError::query("find the delivery that cannot be read"))?;
    // It has gone meanwhile: an operator has decided about it.
    let Some(row) = found else { return Ok(RecordedRead::default()) };
    let delivery = |row: &PgRow| {
        let mut notification = Notification::unread(row.try_get(0)?, row.try_get(1)?);
        notification.key = row.try_get(2)?;
        notification.is_replay = row.try_get(4)?;
        let cause = format!("it could not be read: {}", error.innermost());
        let unreadable = Unreadable { notification: Box::new(notification), cause, is_certain: false };
        Ok::<_, sqlx::Error>(UnreadableDelivery { unreadable, attempts: row.try_get::<i32, _>(3)?.unsigned_abs() })
    };
    let delivery = delivery(&row).map_err(StoreError::query("understand the delivery that cannot be read"))?;
    Ok(RecordedRead { unreadable: vec![delivery], ..RecordedRead::default() })
}

fn recorded_all(rows: &[PgRow], is_due: bool) -> Result<RecordedRead, sqlx::Error> {
    let mut read = RecordedRead::default();
    for row in rows {
        if row.try_get::<Option<uuid::Uuid>, _>("id")?.is_none() {
            read.orphans.push(row.try_get("seq")?);
            continue;
        }
        match recorded(row, is_due) {
            Ok(delivery) => read.rows.push(delivery),
            Err(error) => {
                let mut unreadable = Unreadable::undecoded(row, 0, &error)?;
                unreadable.notification.key = row.try_get(types::EVENT_COLUMNS - 1)?;
                unreadable.notification.is_replay = row.try_get(types::EVENT_COLUMNS + 1)?;
                let attempts = row.try_get::<i32, _>(types::EVENT_COLUMNS)?.unsigned_abs();
                read.unreadable.push(UnreadableDelivery { unreadable, attempts });
            }
        }
    }
    Ok(read)
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

/// How long until the next retry is due that is not `known`; `None` if none is.
pub async fn find_next_due(pool: &PgPool, subscription: i32, known: &[i64]) -> Result<Option<Duration>, StoreError> {
    let micros: Option<i64> = sqlx::query_scalar(include_str!("sql/find_next_due.sql"))
        .bind(subscription)
        .bind(known)
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

/// Deliveries that will be attempted again, retrying and waiting, counted no further than `most`.
pub async fn count_unfinished(pool: &PgPool, subscription: i32, most: u64) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(include_str!("sql/count_unfinished.sql"))
        .bind(subscription)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("count the unfinished deliveries"))?;
    Ok(count.unsigned_abs())
}
