//! Relays and clusters: which relays live, and whether the server is the one that the positions belong to.

use std::time::Duration;

use sqlx::{PgPool, Row};

use super::StoreError;

/// One relay process.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Fresh for every process.
    pub id: String,
    pub host: String,
    pub pid: u32,
    pub version: &'static str,
}

/// What a relay learns when it says that it lives.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// Relays alive within a lease, itself included.
    pub alive: usize,
    /// Rises when a person asks it to read its configuration again.
    pub reload_asked: i32,
}

/// Says that this relay lives.
pub async fn beat(pool: &PgPool, instance: &Instance, lease: Duration) -> Result<Beat, StoreError> {
    let reload_asked: i32 = sqlx::query_scalar(include_str!("sql/beat_instance.sql"))
        .bind(&instance.id)
        .bind(&instance.host)
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

/// A cluster and timeline: positions of one mean nothing in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    pub system_identifier: i64,
    pub timeline: String,
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// `None`: the server is a standby.
    pub incarnation: Option<Incarnation>,
    /// What the stored positions belong to; `None`: nothing was stored yet.
    pub stored: Option<Incarnation>,
}

pub async fn read_identity(pool: &PgPool) -> Result<ServerIdentity, StoreError> {
    let row = sqlx::query(include_str!("sql/read_incarnation.sql"))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("ask the server who it is"))?;
    let identity = || {
        let timeline: Option<String> = row.try_get(2)?;
        let system_identifier = row.try_get(1)?;
        let stored = match (row.try_get::<Option<i64>, _>(3)?, row.try_get::<Option<String>, _>(4)?) {
            (Some(system_identifier), Some(timeline)) => Some(Incarnation { system_identifier, timeline }),
            _ => None,
        };
        let incarnation = timeline.map(|timeline| Incarnation { system_identifier, timeline });
        Ok(ServerIdentity { incarnation, stored })
    };
    identity().map_err(StoreError::query("understand who the server is"))
}

/// Stores what the positions belong to from now on.
pub async fn store_incarnation(pool: &PgPool, incarnation: &Incarnation) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/store_incarnation.sql"))
        .bind(incarnation.system_identifier)
        .bind(&incarnation.timeline)
        .execute(pool)
        .await
        .map_err(StoreError::query("store the identity of the server"))?;
    Ok(())
}
