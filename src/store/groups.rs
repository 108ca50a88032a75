//! Groups of dead letters: those of one handler that failed alike, and what people wrote about them.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::filter::{DeliveryFilter, Fingerprint, Scope};
use super::text::storable;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit};
use crate::domain::Timestamp;

/// Dead letters of one handler that failed alike.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct DeadLetterGroup {
    pub handler: String,
    /// `None`: recorded without one.
    pub group: Option<Fingerprint>,
    pub count: u64,
    pub reason: Option<String>,
    pub status: Option<i32>,
    /// The error, without the parts that differ from event to event.
    pub error: Option<String>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// The newest event of the group.
    pub sample: Uuid,
    pub sample_type: String,
    pub sample_detail: Option<String>,
    /// The oldest first.
    pub notes: Vec<GroupNote>,
}

/// A note of an operator about a group.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct GroupNote {
    pub at: Timestamp,
    pub actor: String,
    pub text: String,
}

/// The largest groups of dead letters that match, at most `limit`, with their notes.
pub async fn group_dead_letters(pool: &PgPool, filter: &DeliveryFilter, limit: u32) -> Result<Vec<DeadLetterGroup>, StoreError> {
    let rows = filter
        .query(include_str!("sql/group_dead_letters.sql"), Scope::All)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("group the dead letters"))?;
    let groups: Result<Vec<_>, _> = rows.iter().map(group).collect();
    let mut groups = groups.map_err(StoreError::query("understand the groups"))?;
    add_notes(pool, &mut groups).await?;
    Ok(groups)
}

fn group(row: &PgRow) -> Result<DeadLetterGroup, sqlx::Error> {
    Ok(DeadLetterGroup {
        handler: row.try_get("handler")?,
        group: row.try_get::<Option<i64>, _>("fingerprint")?.map(Fingerprint),
        count: row.try_get::<i64, _>("dead")?.unsigned_abs(),
        reason: row.try_get("reason")?,
        status: row.try_get("status")?,
        error: row.try_get("error")?,
        first: row.try_get("first_at")?,
        last: row.try_get("last_at")?,
        sample: row.try_get("id")?,
        sample_type: row.try_get("type")?,
        sample_detail: row.try_get("detail")?,
        notes: Vec::new(),
    })
}

async fn add_notes(pool: &PgPool, groups: &mut [DeadLetterGroup]) -> Result<(), StoreError> {
    let handlers: Vec<&str> = groups.iter().map(|group| group.handler.as_str()).collect();
    let fingerprints: Vec<Option<i64>> = groups.iter().map(|group| group.group.map(|group| group.0)).collect();
    let rows = sqlx::query(include_str!("sql/list_group_notes.sql"))
        .bind(handlers)
        .bind(fingerprints)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the notes"))?;
    let note = |row: &PgRow| {
        let key = (row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)?);
        Ok((key, GroupNote { at: row.try_get(2)?, actor: row.try_get(3)?, text: row.try_get(4)? }))
    };
    let mut notes: HashMap<(String, i64), Vec<GroupNote>> = HashMap::new();
    for row in &rows {
        let (key, note) = note(row).map_err(StoreError::query("understand the notes"))?;
        notes.entry(key).or_default().push(note);
    }
    for group in groups {
        let key = group.group.map(|fingerprint| (group.handler.clone(), fingerprint.0));
        group.notes = key.and_then(|key| notes.remove(&key)).unwrap_or_default();
    }
    Ok(())
}

/// Adds a note to a group, for one handler or for each that has dead letters of it; gives for how many. 0: there is no such group.
pub async fn note_group(
    pool: &PgPool,
    handler: Option<&str>,
    group: Fingerprint,
    actor: Actor<'_>,
    text: &str,
) -> Result<u64, StoreError> {
    let mut transaction = begin(pool).await?;
    let noted = sqlx::query(include_str!("sql/insert_group_note.sql"))
        .bind(handler)
        .bind(group.0)
        .bind(storable(actor.name))
        .bind(storable(text))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("note it"))?
        .rows_affected();
    if noted == 0 {
        return Ok(0);
    }
    let filter = DeliveryFilter { handler: handler.map(str::to_owned), group: Some(group), ..DeliveryFilter::default() };
    let entry = AuditEntry { actor, action: "note", handler, filter: &filter.to_json(), affected: noted, reason: Some(text) };
    record_audit(&mut transaction, &entry).await?;
    commit(transaction).await?;
    Ok(noted)
}
