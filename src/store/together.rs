//! Flushes of many subscriptions in one statement: positions, and the markers of first-try successes. `relay::recorder` explains
//! why nothing in it can be refused, and what happens to a subscription that is skipped.

use std::collections::HashSet;

use sqlx::PgPool;

use super::StoreError;
use super::ledger::{Done, Fence, Reached};

/// A flush in which everything succeeded at the first attempt.
#[derive(Debug)]
pub struct Successes {
    pub fence: Fence,
    pub reached: Reached,
    /// Those that get a row.
    pub delivered: Vec<i64>,
}

/// Writes them, and returns the subscriptions that were written. One that is missing was not: its lease is lost, or another session has locked
/// it, and only a flush of its own shows which.
pub async fn record_together(pool: &PgPool, flushes: &[Successes]) -> Result<HashSet<i32>, StoreError> {
    fn column<'f, T>(flushes: &'f [Successes], value: impl Fn(&'f Successes) -> T) -> Vec<T> {
        flushes.iter().map(value).collect()
    }
    let windows = || flushes.iter().map(|flush| flush.reached.position.window.as_ref());
    let (marked, delivered): (Vec<i32>, Vec<i64>) =
        flushes.iter().flat_map(|flush| flush.delivered.iter().map(|seq| (flush.fence.subscription, *seq))).unzip();
    let written: Vec<i32> = sqlx::query_scalar(include_str!("sql/record_together.sql"))
        .bind(column(flushes, |flush| flush.fence.subscription))
        .bind(column(flushes, |flush| flush.fence.epoch))
        .bind(column(flushes, |flush| flush.reached.position.snapshot.as_str()))
        .bind(column(flushes, |flush| flush.reached.position.low_seq))
        .bind(column(flushes, |flush| flush.reached.position.high_seq))
        .bind(windows().map(|window| window.map(|window| window.snapshot.as_str())).collect::<Vec<_>>())
        .bind(windows().map(|window| window.map(|window| window.seq)).collect::<Vec<_>>())
        .bind(windows().map(|window| window.map(|window| window.high_seq)).collect::<Vec<_>>())
        .bind(column(flushes, |flush| match &flush.reached.done {
            Done::AsStored => None,
            Done::Now(done) => done.as_deref(),
        }))
        .bind(column(flushes, |flush| flush.reached.done != Done::AsStored))
        .bind(marked)
        .bind(delivered)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("record what was delivered"))?;
    Ok(written.into_iter().collect())
}
