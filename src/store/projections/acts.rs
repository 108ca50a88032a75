//! Acts of an operator on a version: skip the event at which it has stopped, build it again from the beginning, drop it. Each is one
//! transaction with its line in the audit; an owner that runs is fenced off and starts over from what is stored.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use super::super::functions::quoted_name;
use super::super::text::{storable, storable_or_none};
use super::super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use super::{Version, list};
use crate::failpoints::failpoint;

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Acted {
    /// The type of the event that was skipped; empty for what is not about an event.
    Done(String),
    /// There is no such version, or it was dropped.
    Unknown,
    /// Readers see it.
    Live,
    /// Running relays serve it.
    Owned(Vec<String>),
    /// It does not stand at this event; at this one it does.
    Elsewhere(Option<Uuid>),
    /// It has no target that could be emptied or dropped.
    NoTarget,
    /// Postgres refused to empty or to drop the target.
    Refused(String),
}

/// Serialises what people do to one projection, and finds one of its versions.
pub(super) async fn lock(connection: &mut PgConnection, name: &str) -> Result<Vec<Version>, StoreError> {
    sqlx::query(include_str!("../sql/lock_projection.sql"))
        .bind(name)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::query("wait for others who change the projection"))?;
    let mut versions = list(&mut *connection).await?;
    versions.retain(|version| version.name == name && version.dropped_at.is_none());
    Ok(versions)
}

/// Locks the subscription of a version: its owner can record nothing until the transaction ends. Returns who that is.
pub(super) async fn lock_subscription(connection: &mut PgConnection, version: &Version) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(i32, Option<String>)> = sqlx::query_as(include_str!("../sql/lock_handler.sql"))
        .bind(version.handler())
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("stop the owner of the projection"))?;
    Ok(rows.into_iter().filter_map(|(_, owner)| owner).collect())
}

pub(super) async fn note(
    connection: &mut PgConnection,
    action: &'static str,
    version: &Version,
    (actor, reason): (Actor<'_>, Option<&str>),
    details: &serde_json::Value,
) -> Result<(), StoreError> {
    let (handler, filter) = (version.handler(), details.to_string());
    let entry = AuditEntry { actor, action, handler: Some(&handler), filter: &filter, affected: 1, reason };
    record_audit(&mut *connection, &entry).await?;
    ring_control(connection).await
}

/// Runs a statement about the target; `Ok(Some)`: why Postgres refuses it. The transaction is of no use then.
async fn change_target(connection: &mut PgConnection, statement: String) -> Result<Option<String>, StoreError> {
    match sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(refusal)) => Ok(Some(refusal.message().to_owned())),
        Err(cause) => Err(StoreError::query("change the target of the projection")(cause)),
    }
}

/// A version that reads from the beginning again.
#[derive(Debug, Clone, Copy)]
pub struct Restart<'a> {
    pub name: &'a str,
    pub version: u32,
    /// Events per second; `None`: as configured.
    pub rate: Option<u32>,
    /// Empty the target in the same transaction. Otherwise the operator has done so.
    pub empties_target: bool,
    pub actor: Actor<'a>,
    pub because: Option<&'a str>,
}

/// Lets a version that is not live read from the beginning again.
pub async fn restart(pool: &PgPool, wish: &Restart<'_>) -> Result<Acted, StoreError> {
    let mut transaction = begin(pool).await?;
    let versions = lock(&mut transaction, wish.name).await?;
    let Some(version) = versions.into_iter().find(|version| version.version == wish.version) else { return Ok(Acted::Unknown) };
    if version.is_live {
        return Ok(Acted::Live);
    }
    if wish.empties_target {
        let Some(target) = &version.target else { return Ok(Acted::NoTarget) };
        // Before the subscription is locked: an owner that is projecting holds the target and wants the subscription next.
        if let Some(why) = change_target(&mut transaction, format!("truncate table {}", quoted_name(target))).await? {
            return Ok(Acted::Refused(why));
        }
    }
    lock_subscription(&mut transaction, &version).await?;
    sqlx::query(include_str!("../sql/restart_projection.sql"))
        .bind(version.subscription)
        .bind(wish.rate.map(u32::cast_signed))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("let the projection read from the beginning"))?;
    let details = serde_json::json!({ "rate": wish.rate, "empties_target": wish.empties_target });
    note(&mut transaction, "rebuild", &version, (wish.actor, wish.because), &details).await?;
    failpoint!("projection-restarted");
    commit(transaction).await?;
    Ok(Acted::Done(String::new()))
}

/// Lets a version pass over the event at which it stands.
pub async fn skip(
    pool: &PgPool,
    (name, version): (&str, u32),
    event: Uuid,
    actor: Actor<'_>,
    because: Option<&str>,
) -> Result<Acted, StoreError> {
    let mut transaction = begin(pool).await?;
    let versions = lock(&mut transaction, name).await?;
    let Some(version) = versions.into_iter().find(|found| found.version == version) else { return Ok(Acted::Unknown) };
    lock_subscription(&mut transaction, &version).await?;
    let skipped: Option<String> = sqlx::query_scalar(include_str!("../sql/skip_projected.sql"))
        .bind(version.subscription)
        .bind(event)
        .bind(storable(actor.name))
        .bind(storable_or_none(because))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("skip the event"))?;
    let Some(event_type) = skipped else { return Ok(Acted::Elsewhere(version.stopped.map(|stopped| stopped.event))) };
    let details = serde_json::json!({ "event": event, "type": event_type });
    note(&mut transaction, "skip", &version, (actor, because), &details).await?;
    failpoint!("projection-skipped");
    commit(transaction).await?;
    Ok(Acted::Done(event_type))
}

/// Drops a version that no relay serves, and its target if that is wished. The live one only if it is the last of its projection.
pub async fn drop_version(
    pool: &PgPool,
    (name, version): (&str, u32),
    drops_target: bool,
    actor: Actor<'_>,
    because: Option<&str>,
) -> Result<Acted, StoreError> {
    let mut transaction = begin(pool).await?;
    let versions = lock(&mut transaction, name).await?;
    let Some(found) = versions.iter().find(|found| found.version == version) else { return Ok(Acted::Unknown) };
    if found.is_live && versions.len() > 1 {
        return Ok(Acted::Live);
    }
    let owners = lock_subscription(&mut transaction, found).await?;
    if !owners.is_empty() {
        return Ok(Acted::Owned(owners));
    }
    if drops_target {
        let Some(target) = &found.target else { return Ok(Acted::NoTarget) };
        if let Some(why) = change_target(&mut transaction, format!("drop table {}", quoted_name(target))).await? {
            return Ok(Acted::Refused(why));
        }
    }
    sqlx::query(include_str!("../sql/remove_handler.sql"))
        .bind(found.subscription.into_iter().collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("drop the position of the projection"))?;
    sqlx::query(include_str!("../sql/drop_projection.sql"))
        .bind(name)
        .bind(i32::try_from(version).unwrap_or(i32::MAX))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("drop the projection"))?;
    let details = serde_json::json!({ "target": found.target, "drops_target": drops_target });
    note(&mut transaction, "drop", found, (actor, because), &details).await?;
    failpoint!("projection-dropped");
    commit(transaction).await?;
    Ok(Acted::Done(String::new()))
}
