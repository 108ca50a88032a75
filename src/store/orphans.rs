//! Orphans: deliveries whose event is gone from the log, by a restore of one table, say. They end visibly, and their keys go on.

use sqlx::PgPool;

use super::{Fence, StoreError};

/// Ends those of these deliveries that are still owed and have no event; gives how many.
pub async fn end_orphans(pool: &PgPool, fence: Fence, seqs: &[i64]) -> Result<u64, StoreError> {
    let ended: i64 = sqlx::query_scalar(include_str!("sql/end_orphans.sql"))
        .bind(fence.subscription)
        .bind(fence.epoch)
        .bind(seqs)
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("end deliveries whose event is gone"))?;
    Ok(ended.unsigned_abs())
}
