//! Removing what is recorded of a handler that no relay serves any more.

use serde::Serialize;
use sqlx::PgPool;

use super::handlers::{gone, show, still_owned};
use super::{Caller, OperationError, refuse_projection};
use crate::store::{self, Forgotten, Unfinished};

/// Rows that are looked at per subscription; beyond that the count is a lower bound.
pub const MOST_LOOKED_AT: i64 = 1_000_000;

/// The events that would be lost.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ForgetPlan {
    pub handler: String,
    pub unfinished: Unfinished,
    /// Relays that serve it. While there are any, it cannot be forgotten.
    pub owners: Vec<String>,
}

/// The removed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Removed {
    pub subscriptions: u64,
    pub deliveries: u64,
}

/// The events that would be lost with a handler.
pub async fn plan(pool: &PgPool, name: &str) -> Result<ForgetPlan, OperationError> {
    let handler = show(pool, name).await?;
    refuse_projection(pool, name, "`outboxd projections drop` removes it").await?;
    let unfinished = store::read_unfinished(pool, name, None, MOST_LOOKED_AT).await?;
    Ok(ForgetPlan { handler: handler.name, unfinished, owners: handler.owners })
}

/// Removes a handler with everything recorded for it. Its events stay.
pub async fn forget(pool: &PgPool, caller: &Caller, name: &str, reason: Option<&str>) -> Result<Removed, OperationError> {
    refuse_projection(pool, name, "`outboxd projections drop` removes it").await?;
    match store::forget_handler(pool, name, caller.actor(), reason).await? {
        Forgotten::Gone { subscriptions, deliveries } => Ok(Removed { subscriptions, deliveries }),
        // A relay may have taken it up meanwhile.
        Forgotten::Owned(owners) => Err(still_owned(name, &owners)),
        Forgotten::Unknown => Err(gone(name)),
    }
}
