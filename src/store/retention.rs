//! Retention: removes finished events in chunks. Events that a handler still owes stay, and so do the events of streams.
//! `relay::retention` explains the walk.

use std::time::Duration;

use sqlx::{PgPool, Postgres, Row, Transaction};

use super::StoreError;
use crate::failpoints::failpoint;

/// The result of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The last event that was sourced or old enough, whether it could go or not; `None`: there was none.
    pub last_seq: Option<i64>,
    pub removed: u64,
    /// Events of streams, which stay.
    pub sourced: u64,
    /// The chunk was full: there may be more behind it.
    pub has_more: bool,
}

/// Where a chunk of retention looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// From here on, as far as events are old and every subscription has passed them.
    Onwards { after: i64 },
    /// Once more at what could not go before, up to here.
    LeftBehind { after: i64, up_to: i64 },
}

/// Looks at up to `rows` events that are older than `keep`, and removes those that no handler is owed.
/// `None`: another instance is removing.
pub async fn remove_finished(pool: &PgPool, stretch: Stretch, keep: Duration, rows: u32) -> Result<Option<Removed>, StoreError> {
    let Some(mut transaction) = begin_alone(pool).await? else { return Ok(None) };
    let (after, up_to) = match stretch {
        Stretch::Onwards { after } => (after, None),
        Stretch::LeftBehind { after, up_to } => (after, Some(up_to)),
    };
    let row = sqlx::query(include_str!("sql/remove_finished.sql"))
        .bind(after)
        .bind(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
        .bind(i64::from(rows))
        .bind(up_to)
        .bind(up_to.is_some())
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("remove finished events"))?;
    failpoint!("retention-removed", row.try_get::<i64, _>(1).is_ok_and(|removed| removed > 0));
    super::commit(transaction).await?;
    failpoint!("retention-committed", row.try_get::<i64, _>(1).is_ok_and(|removed| removed > 0));
    let removed = || {
        let removed = row.try_get::<i64, _>(1)?.unsigned_abs();
        let sourced = row.try_get::<i64, _>(3)?.unsigned_abs();
        Ok(Removed { last_seq: row.try_get(0)?, removed, sourced, has_more: row.try_get(2)? })
    };
    removed().map(Some).map_err(StoreError::query("understand what was removed"))
}

/// `None`: another instance is removing.
async fn begin_alone(pool: &PgPool) -> Result<Option<Transaction<'static, Postgres>>, StoreError> {
    let mut transaction = super::begin(pool).await?;
    let is_alone: bool = sqlx::query_scalar(include_str!("sql/lock_retention.sql"))
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("take the retention lock"))?;
    Ok(is_alone.then_some(transaction))
}

/// Subscriptions that may keep something of events of streams; none if there are no streams.
pub async fn list_sourced_subscriptions(pool: &PgPool) -> Result<Vec<i32>, StoreError> {
    sqlx::query_scalar(include_str!("sql/list_sourced_subscriptions.sql"))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the subscriptions that keep something of streams"))
}

/// Which deliveries of a subscription are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handled {
    pub subscription: i32,
    pub after: i64,
    pub up_to: i64,
}

/// Looks at up to `rows` deliveries and removes those that ended longer ago than `keep` and are of events of streams, which stay.
/// `None`: another instance is removing.
pub async fn remove_handled(pool: &PgPool, handled: Handled, keep: Duration, rows: u32) -> Result<Option<Removed>, StoreError> {
    let Some(mut transaction) = begin_alone(pool).await? else { return Ok(None) };
    let row = sqlx::query(include_str!("sql/remove_handled.sql"))
        .bind(handled.subscription)
        .bind(handled.after)
        .bind(handled.up_to)
        .bind(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
        .bind(i64::from(rows))
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("remove old deliveries of events of streams"))?;
    super::commit(transaction).await?;
    let removed = || {
        let removed = row.try_get::<i64, _>(1)?.unsigned_abs();
        Ok(Removed { last_seq: row.try_get(0)?, removed, sourced: 0, has_more: row.try_get(2)? })
    };
    removed().map(Some).map_err(StoreError::query("understand what was removed"))
}

/// Removes a chunk of the marks of receivers that are older than `keep`; gives how many.
pub async fn remove_inbox(pool: &PgPool, keep: Duration, chunk: u32) -> Result<u64, StoreError> {
    let removed: i64 = sqlx::query_scalar(include_str!("sql/remove_inbox.sql"))
        .bind(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
        .bind(i64::from(chunk))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("remove old marks of the inbox"))?;
    Ok(removed.unsigned_abs())
}

/// Removes a chunk of the set of a replay that ended longer ago than `retention`; gives how many rows. The replay itself stays.
pub async fn remove_replay_items(pool: &PgPool, retention: Duration, chunk: u32) -> Result<u64, StoreError> {
    let removed: i64 = sqlx::query_scalar(include_str!("sql/remove_replay_items.sql"))
        .bind(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX))
        .bind(i64::from(chunk))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("remove the set of a replay that has ended"))?;
    Ok(removed.unsigned_abs())
}
