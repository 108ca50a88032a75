//! Destinations in trouble, as their owner stores them: for the next owner, and for operators.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::{Fence, StoreError};
use crate::domain::{Reason, Timestamp, Trouble, Verdict};

/// A destination in trouble, as it is stored.
#[derive(Debug, Clone)]
pub struct StoredDestination {
    pub name: String,
    pub reason: Reason,
    pub status: Option<u16>,
    pub detail: String,
    pub probes: u32,
    /// Until the next probe.
    pub wait: Duration,
}

/// What changed since it was last stored.
#[derive(Debug, Default)]
pub struct DestinationNews {
    pub troubled: Vec<StoredDestination>,
    /// In trouble no more.
    pub recovered: Vec<String>,
}

impl DestinationNews {
    pub fn is_empty(&self) -> bool {
        self.troubled.is_empty() && self.recovered.is_empty()
    }
}

/// Stores what changed. Writes nothing if the lease is lost.
pub async fn record_destinations(pool: &PgPool, fence: Fence, news: &DestinationNews) -> Result<(), StoreError> {
    if !news.recovered.is_empty() {
        sqlx::query(include_str!("sql/remove_destinations.sql"))
            .bind(fence.subscription)
            .bind(fence.epoch)
            .bind(&news.recovered)
            .execute(pool)
            .await
            .map_err(StoreError::query("remove destinations that work again"))?;
    }
    let troubled = &news.troubled;
    if !troubled.is_empty() {
        let micros = |wait: Duration| i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        sqlx::query(include_str!("sql/save_destinations.sql"))
            .bind(fence.subscription)
            .bind(fence.epoch)
            .bind(troubled.iter().map(|one| one.name.as_str()).collect::<Vec<_>>())
            .bind(troubled.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>())
            .bind(troubled.iter().map(|one| one.status.map(i32::from)).collect::<Vec<_>>())
            .bind(troubled.iter().map(|one| one.detail.replace('\0', "\u{fffd}")).collect::<Vec<_>>())
            .bind(troubled.iter().map(|one| one.probes.cast_signed()).collect::<Vec<_>>())
            .bind(troubled.iter().map(|one| micros(one.wait)).collect::<Vec<_>>())
            .execute(pool)
            .await
            .map_err(StoreError::query("record destinations in trouble"))?;
    }
    Ok(())
}

/// What the last owner stored, as of `now` on the clock of the new one.
pub async fn read_destinations(pool: &PgPool, subscription: i32, now: Duration) -> Result<Vec<(String, Trouble)>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_destinations.sql"))
        .bind(subscription)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the destinations in trouble"))?;
    let stored = |row: &PgRow| {
        let reason = Reason::named(row.try_get(1)?).unwrap_or(Reason::Failed);
        let status: Option<i32> = row.try_get(2)?;
        let verdict = Verdict::handler_fault(reason, row.try_get::<String, _>(3)?);
        let verdict = Verdict { status: status.and_then(|status| u16::try_from(status).ok()), ..verdict };
        let micros =
            |column: usize| Ok::<_, sqlx::Error>(Duration::from_micros(row.try_get::<i64, _>(column)?.max(0).unsigned_abs()));
        let trouble = Trouble::stored(&verdict, row.try_get::<i32, _>(4)?.unsigned_abs(), micros(5)?, micros(6)?, now);
        Ok((row.try_get(0)?, trouble))
    };
    rows.iter().map(stored).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the destinations in trouble"))
}

/// A destination in trouble, for operators.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct ListedDestination {
    pub handler: String,
    pub partition: i32,
    pub destination: String,
    pub reason: String,
    pub status: Option<i32>,
    pub detail: Option<String>,
    /// Probes that have failed.
    pub probes: i32,
    pub since: Timestamp,
    pub probe_at: Timestamp,
    /// Deliveries that wait for it, counted up to 10,000.
    pub waiting: u64,
}

/// The destinations in trouble, the oldest first, at most `limit`.
pub async fn list_destinations(pool: &PgPool, handler: Option<&str>, limit: u32) -> Result<Vec<ListedDestination>, StoreError> {
    let rows = sqlx::query(include_str!("sql/list_destinations.sql"))
        .bind(handler)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the destinations in trouble"))?;
    let listed = |row: &PgRow| {
        Ok(ListedDestination {
            handler: row.try_get(0)?,
            partition: row.try_get(1)?,
            destination: row.try_get(2)?,
            reason: row.try_get(3)?,
            status: row.try_get(4)?,
            detail: row.try_get(5)?,
            probes: row.try_get(6)?,
            since: row.try_get(7)?,
            probe_at: row.try_get(8)?,
            waiting: row.try_get::<i64, _>(9)?.unsigned_abs(),
        })
    };
    rows.iter().map(listed).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the destinations in trouble"))
}
