//! The backlog of a handler: what it has left to do, counted within a bound, so that a far lag costs no more than a near one.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::StoreError;
use super::subscriptions::COUNTED_DELIVERIES;
use crate::domain::Timestamp;

/// How many unread events are looked at per subscription; beyond that a count is a lower bound.
pub const COUNTED: u64 = 10_000;

/// The unfinished events of one handler.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandlerBacklog {
    pub pending: u64,
    pub pending_is_exact: bool,
    pub retrying: u64,
    pub waiting: u64,
    pub dead: u64,
    pub deliveries_are_exact: bool,
    pub oldest: Option<Duration>,
}

/// Counts it.
pub(super) async fn read_backlog(connection: &mut PgConnection, handler: &str) -> Result<HandlerBacklog, StoreError> {
    let row = sqlx::query(include_str!("sql/read_handler_backlog.sql"))
        .bind(handler)
        .bind(COUNTED.cast_signed())
        .bind(COUNTED_DELIVERIES.cast_signed())
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("count what a handler has not finished"))?;
    backlog(&row).map_err(StoreError::query("understand what a handler has not finished"))
}

fn backlog(row: &PgRow) -> Result<HandlerBacklog, sqlx::Error> {
    let count = |column: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.max(0).unsigned_abs());
    let now: Timestamp = row.try_get(7)?;
    let oldest = [row.try_get::<Option<Timestamp>, _>(1)?, row.try_get(6)?].into_iter().flatten().min();
    Ok(HandlerBacklog {
        pending: count(0)?.min(COUNTED),
        pending_is_exact: count(2)? < COUNTED,
        retrying: count(3)?,
        waiting: count(4)?,
        dead: count(5)?,
        deliveries_are_exact: !row.try_get::<bool, _>(8)?,
        oldest: oldest.map(|oldest| now.since(oldest)),
    })
}
