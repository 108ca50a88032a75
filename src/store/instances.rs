//! Relays and clusters: which relays live, and the identity of the server that the positions belong to.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row};

use super::StoreError;
use super::text::storable;
use crate::domain::{Incarnation, ServerIdentity};

/// One relay process.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Fresh for every process.
    pub id: String,
    pub host: String,
    pub pid: u32,
    pub version: &'static str,
}

/// The answer to a relay that reports that it lives.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// Relays alive within a lease, itself included.
    pub alive: usize,
    /// Rises when an operator asks it to read its configuration again.
    pub reload_asked: i32,
}

/// Says that this relay lives.
pub async fn beat(pool: &PgPool, instance: &Instance, lease: Duration) -> Result<Beat, StoreError> {
    let reload_asked: i32 = sqlx::query_scalar(include_str!("sql/beat_instance.sql"))
        .bind(&instance.id)
        .bind(storable(&instance.host))
        .bind(instance.pid.cast_signed())
        .bind(instance.version)
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("say that this relay lives"))?;
    let alive: i64 = sqlx::query_scalar(include_str!("sql/count_instances.sql"))
        .bind(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("count the relays"))?;
    Ok(Beat { alive: usize::try_from(alive).unwrap_or(1).max(1), reload_asked })
}

/// Says that this relay has stopped.
pub async fn leave(pool: &PgPool, id: &str) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/leave_instance.sql")).bind(id).execute(pool).await.map_err(StoreError::query("sign off"))?;
    Ok(())
}

/// The identity of the server, and that of the stored positions.
pub async fn read_identity(executor: impl PgExecutor<'_>) -> Result<ServerIdentity, StoreError> {
    let row = sqlx::query(include_str!("sql/read_incarnation.sql"))
        .fetch_one(executor)
        .await
        .map_err(StoreError::query("ask the server who it is"))?;
    identity(&row).map_err(StoreError::query("understand who the server is"))
}

pub(super) fn identity(row: &PgRow) -> Result<ServerIdentity, sqlx::Error> {
    let found = match row.try_get::<Option<String>, _>("timeline")? {
        Some(timeline) => {
            Some(Incarnation { system_identifier: row.try_get("system_identifier")?, timeline, database: row.try_get("database")? })
        }
        None => None,
    };
    let stored = match row.try_get::<Option<String>, _>("stored_timeline")? {
        Some(timeline) => Some(Incarnation {
            system_identifier: row.try_get("stored_system_identifier")?,
            timeline,
            database: row.try_get("stored_database")?,
        }),
        None => None,
    };
    Ok(ServerIdentity {
        found,
        stored,
        is_copied: row.try_get("is_copied")?,
        next_transaction: row.try_get("next_transaction")?,
        highest_known: row.try_get("highest_known")?,
        last_seq: row.try_get("last_seq")?,
        highest_seq: row.try_get("highest_seq")?,
    })
}

/// Stores what the positions belong to from now on: the server that executes it.
pub async fn store_incarnation(executor: impl PgExecutor<'_>) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/store_incarnation.sql"))
        .execute(executor)
        .await
        .map_err(StoreError::query("store the identity of the server"))?;
    Ok(())
}
