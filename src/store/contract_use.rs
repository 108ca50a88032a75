//! Use of contracts: which receiver was sent which version, since when, and how many events. Written by relays, read by
//! operators.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::StoreError;
use crate::domain::Timestamp;
use crate::telemetry::Used;

/// The use of one version of a contract by one receiver.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedUse {
    #[serde(rename = "type")]
    pub event_type: String,
    pub version: u32,
    /// `handler:NAME` or `client:NAME`.
    pub receiver: String,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub events: u64,
}

/// All of it at one moment, by type, version and receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedUse {
    /// When counting began.
    pub since: Timestamp,
    pub now: Timestamp,
    pub receivers: Vec<ListedUse>,
}

/// Adds what was counted. After an error it may be written all the same.
pub async fn record_contract_use(pool: &PgPool, used: &[Used]) -> Result<(), StoreError> {
    let micros = |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    sqlx::query(include_str!("sql/record_contract_use.sql"))
        .bind(used.iter().map(|used| used.key.event_type.as_str()).collect::<Vec<_>>())
        .bind(used.iter().map(|used| i64::from(used.key.version)).collect::<Vec<_>>())
        .bind(used.iter().map(|used| used.key.receiver.as_str()).collect::<Vec<_>>())
        .bind(used.iter().map(|used| i64::try_from(used.events).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(used.iter().map(|used| micros(used.first)).collect::<Vec<_>>())
        .bind(used.iter().map(|used| micros(used.last)).collect::<Vec<_>>())
        .execute(pool)
        .await
        .map_err(StoreError::query("record the use of contracts"))?;
    Ok(())
}

/// Reads what relays have written.
pub async fn read_contract_use(pool: &PgPool) -> Result<CountedUse, StoreError> {
    let since = sqlx::query(include_str!("sql/read_use_since.sql"))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("read since when the use of contracts is counted"))?;
    let rows = sqlx::query(include_str!("sql/list_contract_use.sql"))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the use of contracts"))?;
    let counted = || {
        let receivers = rows.iter().map(decode_use).collect::<Result<_, _>>()?;
        Ok(CountedUse { since: since.try_get(0)?, now: since.try_get(1)?, receivers })
    };
    counted().map_err(StoreError::query("understand the use of contracts"))
}

/// A row of `list_contract_use`.
pub(super) fn decode_use(row: &PgRow) -> Result<ListedUse, sqlx::Error> {
    Ok(ListedUse {
        event_type: row.try_get(0)?,
        version: u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX),
        receiver: row.try_get(2)?,
        first_at: Timestamp::from_micros(row.try_get(3)?),
        last_at: Timestamp::from_micros(row.try_get(4)?),
        events: row.try_get::<i64, _>(5)?.unsigned_abs(),
    })
}
