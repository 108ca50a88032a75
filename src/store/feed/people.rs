//! The feed as an operator looks at it.

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use crate::domain::Timestamp;
use crate::store::StoreError;

/// The places at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedStatus {
    pub head: i64,
    pub removed_place: i64,
    pub removed_events: i64,
    pub removed_at: Option<Timestamp>,
    /// The lowest place that is kept; it can lie below what was removed.
    pub oldest_place: Option<i64>,
    pub types: i64,
    /// When the last event happened, by its producer.
    pub newest_at: Option<Timestamp>,
}

/// One history of the places.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FeedEpoch {
    pub number: i32,
    pub epoch: uuid::Uuid,
    pub began_after: i64,
    pub at: Timestamp,
    /// `first`, `timeline` or `rebase`.
    pub why: String,
    pub server: String,
}

/// Reads how far the feed goes.
pub async fn read_status(executor: impl PgExecutor<'_>) -> Result<FeedStatus, StoreError> {
    let row = sqlx::query(include_str!("../sql/read_feed_status.sql"))
        .fetch_one(executor)
        .await
        .map_err(StoreError::query("read the places of the feed"))?;
    let status = || {
        Ok(FeedStatus {
            head: row.try_get("head")?,
            removed_place: row.try_get("removed_place")?,
            removed_events: row.try_get("removed_events")?,
            removed_at: row.try_get("removed_at")?,
            oldest_place: row.try_get("oldest_place")?,
            types: row.try_get("types")?,
            newest_at: row.try_get("newest_at")?,
        })
    };
    status().map_err(StoreError::query("understand the places of the feed"))
}

/// The histories of the places, in the order in which they began.
pub async fn list_epochs(executor: impl PgExecutor<'_>) -> Result<Vec<FeedEpoch>, StoreError> {
    let rows = sqlx::query(include_str!("../sql/list_feed_epochs.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("list the epochs of the feed"))?;
    rows.iter().map(epoch).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the epochs of the feed"))
}

fn epoch(row: &PgRow) -> Result<FeedEpoch, sqlx::Error> {
    Ok(FeedEpoch {
        number: row.try_get("number")?,
        epoch: row.try_get("epoch")?,
        began_after: row.try_get("began_after")?,
        at: row.try_get("at")?,
        why: row.try_get("why")?,
        server: row.try_get("server")?,
    })
}
