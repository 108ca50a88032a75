//! Whether the server splits events into partitions as `domain::share` does in memory. Reads no table.

use sqlx::PgExecutor;

use super::StoreError;
use crate::domain::hash_text;

/// Texts of every length that the hash treats in a way of its own, and beyond ASCII.
const SAMPLES: [&str; 6] = ["", "order/42", "7", "elevenbytes", "order/00000000-0000-7000-8000-000000000001", "Größe/\u{1f600}"];

/// Whether this server gives a text the hash that [`hash_text`] does: it says in which partition an event is. A server on a big-endian processor gives
/// others.
pub async fn splits_alike(executor: impl PgExecutor<'_>) -> Result<bool, StoreError> {
    let hashes: Vec<i64> = sqlx::query_scalar(include_str!("sql/hash_texts.sql"))
        .bind(&SAMPLES[..])
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("compare how events are split into partitions"))?;
    Ok(hashes.into_iter().eq(SAMPLES.iter().map(|text| hash_text(text.as_bytes()).cast_signed())))
}
