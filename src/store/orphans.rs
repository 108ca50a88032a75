//! Orphans: deliveries whose event is gone from the log. They end as discarded with the reason `event_gone`, and their keys go
//! on.
//!
//! The trigger `forget_event` does this when a row is deleted. Where that trigger was disabled, or a restore lacked the event,
//! the loop ends the delivery when it reads it as due or as waiting.

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
