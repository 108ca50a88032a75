//! What flows: the types of the newest events with the handlers that want them, and what of them is not finished. Both are bounded reads,
//! whatever the size of the log.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::StoreError;
use crate::domain::Timestamp;

/// Of so many events, the newest, the types are counted.
pub const LOOKED_AT: i64 = 20_000;
/// Unfinished deliveries that are counted, the newest first.
const MOST_UNFINISHED: i64 = 20_000;
const MOST_TYPES: i64 = 200;

/// A type among the newest events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeTraffic {
    pub event_type: String,
    pub events: u64,
    /// Of the last five minutes.
    pub recent: u64,
    pub last_at: Timestamp,
    /// Handlers that want the type by its name; filters by aggregate and headers are not looked at.
    pub handlers: Vec<String>,
}

/// Unfinished deliveries of one type at one handler, in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeTrouble {
    pub handler: String,
    pub event_type: String,
    /// `retrying`, `waiting` or `dead`.
    pub state: String,
    pub deliveries: u64,
}

/// The types of the newest events, those with the most events first.
pub async fn list_type_traffic(pool: &PgPool) -> Result<Vec<TypeTraffic>, StoreError> {
    let rows = sqlx::query(include_str!("sql/list_type_traffic.sql"))
        .bind(LOOKED_AT)
        .bind(MOST_TYPES)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the types"))?;
    rows.iter().map(traffic).collect::<Result<_, _>>().map_err(StoreError::query("understand the types"))
}

fn traffic(row: &PgRow) -> Result<TypeTraffic, sqlx::Error> {
    Ok(TypeTraffic {
        event_type: row.try_get("type")?,
        events: row.try_get::<i64, _>("events")?.max(0).unsigned_abs(),
        recent: row.try_get::<i64, _>("recent")?.max(0).unsigned_abs(),
        last_at: row.try_get("last_at")?,
        handlers: row.try_get("handlers")?,
    })
}

/// What is not finished, by handler, type and state.
pub async fn list_type_troubles(pool: &PgPool) -> Result<Vec<TypeTrouble>, StoreError> {
    let rows = sqlx::query(include_str!("sql/list_type_troubles.sql"))
        .bind(MOST_UNFINISHED)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list what is not finished"))?;
    rows.iter().map(trouble).collect::<Result<_, _>>().map_err(StoreError::query("understand what is not finished"))
}

fn trouble(row: &PgRow) -> Result<TypeTrouble, sqlx::Error> {
    Ok(TypeTrouble {
        handler: row.try_get("handler")?,
        event_type: row.try_get("type")?,
        state: row.try_get("state")?,
        deliveries: row.try_get::<i64, _>("deliveries")?.max(0).unsigned_abs(),
    })
}
