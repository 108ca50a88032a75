//! What a handler has not finished, by event type: what its removal, another filter or another name is about.
//! Reads only, within a bound; a count that reaches the bound says so.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::StoreError;
use super::audit::lift_statement_timeout;
use super::subscriptions::Wanted;
use crate::domain::Timestamp;

/// Pending events of one type.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct PendingType {
    #[serde(rename = "type")]
    pub event_type: String,
    pub pending: u64,
    /// Those of `pending` that another filter no longer wants.
    #[serde(skip)]
    pub unwanted: u64,
}

/// What a handler still owes, over all its partitions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Unfinished {
    /// Events in the log without an outcome.
    pub pending: u64,
    /// False: there are at least `pending`.
    pub pending_is_exact: bool,
    /// The most frequent type comes first.
    pub types: Vec<PendingType>,
    pub oldest_pending: Option<Timestamp>,
    pub retrying: u64,
    pub waiting: u64,
    pub dead: u64,
}

impl Unfinished {
    /// Those of the pending events that another filter no longer wants.
    pub fn unwanted(&self) -> u64 {
        self.types.iter().map(|of| of.unwanted).sum()
    }

    /// Deliveries that would never be made if the handler were gone; dead letters are not among them.
    pub fn owed(&self) -> u64 {
        self.pending + self.retrying + self.waiting
    }
}

/// Counts what a handler has not finished, looking at no more than so many rows per subscription and arm of the index.
/// `other`: another filter, of which it is counted what it would no longer want.
pub async fn read_unfinished(
    pool: &PgPool,
    handler: &str,
    other: Option<&Wanted>,
    looked_at: i64,
) -> Result<Unfinished, StoreError> {
    let mut transaction = super::begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let rows = sqlx::query(include_str!("sql/count_pending_types.sql"))
        .bind(handler)
        .bind(looked_at)
        .bind(other.map(|wanted| serde_json::json!(wanted)))
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::query("count what a handler has not handled"))?;
    let parked = sqlx::query(include_str!("sql/count_parked.sql"))
        .bind(handler)
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("count what a handler has not finished"))?;
    unfinished(&rows, &parked, looked_at).map_err(StoreError::query("understand what a handler has not finished"))
}

fn unfinished(rows: &[PgRow], parked: &PgRow, bound: i64) -> Result<Unfinished, sqlx::Error> {
    let count = |row: &PgRow, column: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
    let mut types = Vec::new();
    let (mut oldest, mut is_exact): (Option<Timestamp>, bool) = (None, true);
    for row in rows {
        is_exact &= row.try_get::<i64, _>(4)? < bound;
        let pending = count(row, 1)?;
        if pending > 0 {
            types.push(PendingType { event_type: row.try_get(0)?, pending, unwanted: count(row, 2)? });
            oldest = [oldest, row.try_get(3)?].into_iter().flatten().min();
        }
    }
    Ok(Unfinished {
        pending: types.iter().map(|of| of.pending).sum(),
        pending_is_exact: is_exact,
        types,
        oldest_pending: oldest,
        retrying: count(parked, 0)?,
        waiting: count(parked, 1)?,
        dead: count(parked, 2)?,
    })
}
