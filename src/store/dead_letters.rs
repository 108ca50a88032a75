//! Dead letters: listed, grouped by what failed, exported, discarded. An operator's action is one transaction with its audit row,
//! and rings for the relay. Dead letters are never removed by age.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use serde_json::value::RawValue;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Row};
use uuid::Uuid;

use super::audit::lift_statement_timeout;
use super::filter::{DeliveryFilter, Fingerprint, Scope};
use super::remains::Remains;
use super::text::storable;
use super::{AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::Timestamp;

/// One delivery that policy gave up on; in the sample of a replay perhaps one that was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeadLetter {
    /// Of the event.
    pub id: Uuid,
    #[serde(rename = "type")]
    pub event_type: String,
    pub handler: String,
    pub partition: i32,
    pub seq: i64,
    pub key: Option<String>,
    pub reason: Option<String>,
    /// Status of the last answer, for example the HTTP status.
    pub status: Option<i32>,
    pub detail: Option<String>,
    pub attempts: i32,
    pub occurred_at: Timestamp,
    /// When it was given up on.
    pub dead_since: Option<Timestamp>,
    pub group: Option<Fingerprint>,
    /// The replay that holds it and will deliver it again.
    pub replay: Option<Uuid>,
}

/// A dead letter with everything that was recorded of its event, for other tools.
#[derive(Debug, serde::Serialize)]
pub struct ExportedLetter {
    #[serde(flatten)]
    pub letter: DeadLetter,
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    pub aggregate_version: Option<i64>,
    pub headers: Box<RawValue>,
    /// Byte for byte.
    pub payload: Box<RawValue>,
    pub attempts_made: Box<RawValue>,
    /// Why headers, payload or aggregate cannot be read: what cannot is null here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// How many deliveries of one handler match.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeliveryCount {
    pub handler: String,
    pub count: u64,
}

/// Dead letters of one handler that failed alike.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeadLetterGroup {
    pub handler: String,
    /// `None`: recorded without one.
    pub group: Option<Fingerprint>,
    pub count: u64,
    pub reason: Option<String>,
    pub status: Option<i32>,
    /// The failure, without the parts that differ from event to event.
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
#[derive(Debug, Clone, serde::Serialize)]
pub struct GroupNote {
    pub at: Timestamp,
    pub actor: String,
    pub text: String,
}

/// The newest deliveries that match, at most `limit`.
pub async fn list_dead_letters(pool: &PgPool, filter: &DeliveryFilter, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
    list_deliveries(pool, filter, Scope::All, limit).await
}

pub(super) async fn list_deliveries(
    pool: &PgPool,
    filter: &DeliveryFilter,
    scope: Scope,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = filter
        .query(include_str!("sql/list_dead_letters.sql"), scope)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the dead letters"))?;
    rows.iter().map(dead_letter).collect::<Result<_, _>>().map_err(StoreError::query("understand the dead letters"))
}

fn dead_letter(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        event_type: row.try_get("type")?,
        handler: row.try_get("handler")?,
        partition: row.try_get("partition")?,
        seq: row.try_get("seq")?,
        key: row.try_get("key")?,
        reason: row.try_get("reason")?,
        status: row.try_get("status")?,
        detail: row.try_get("detail")?,
        attempts: row.try_get("attempts")?,
        occurred_at: row.try_get("occurred_at")?,
        dead_since: row.try_get("handled_at")?,
        group: row.try_get::<Option<i64>, _>("fingerprint")?.map(Fingerprint),
        replay: row.try_get("replay")?,
    })
}

/// Gives every dead letter that matches to `take`, one by one, however many there are. Ends early when `take` says `false`.
pub async fn export_dead_letters(
    pool: &PgPool,
    filter: &DeliveryFilter,
    mut take: impl FnMut(ExportedLetter) -> bool,
) -> Result<u64, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let (mut count, mut last) = (0, None);
    let mut rows = export(filter, None, &[]).fetch(&mut *transaction);
    let failed = StoreError::query("export the dead letters");
    loop {
        let row = match rows.try_next().await {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(count),
            Err(error) => match failed(error) {
                damaged if damaged.is_about_data() => break,
                error => return Err(error),
            },
        };
        let letter = exported(&row).map_err(StoreError::query("understand a dead letter"))?;
        last = Some((row.try_get("subscription").map_err(StoreError::query("understand a dead letter"))?, letter.letter.seq));
        count += 1;
        if !take(letter) {
            return Ok(count);
        }
    }
    drop(rows);
    drop(transaction);
    // One of them is damaged, and took the statement with it.
    for place in find_dead_letters(pool, filter, last).await? {
        let Some(letter) = export_one(pool, filter, place).await? else { continue };
        count += 1;
        if !take(letter) {
            break;
        }
    }
    Ok(count)
}

/// Of one dead letter, or of all; without what is left out.
fn export(
    filter: &DeliveryFilter,
    place: Option<Place>,
    left_out: &'static [&'static str],
) -> Query<'static, Postgres, PgArguments> {
    filter
        .query(include_str!("sql/export_dead_letters.sql"), Scope::All)
        .bind(place.map(|(subscription, _)| subscription))
        .bind(place.map(|(_, seq)| seq))
        .bind(left_out)
}

/// Subscription and number of a dead letter.
type Place = (i32, i64);

async fn find_dead_letters(pool: &PgPool, filter: &DeliveryFilter, after: Option<Place>) -> Result<Vec<Place>, StoreError> {
    let rows = filter
        .query(include_str!("sql/find_dead_letters.sql"), Scope::All)
        .bind(after.map(|(subscription, _)| subscription))
        .bind(after.map(|(_, seq)| seq))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("find the dead letters"))?;
    let place = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(place).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the dead letters"))
}

/// A dead letter, or what is left of its event. `None`: it is none any more.
async fn export_one(pool: &PgPool, filter: &DeliveryFilter, place: Place) -> Result<Option<ExportedLetter>, StoreError> {
    let mut remains = Remains::default();
    loop {
        match try_export(pool, filter, place, &remains).await {
            Ok(found) => return Ok(found.map(|letter| ExportedLetter { damage: remains.damage, ..letter })),
            Err(error) => remains.leave_out_more(error)?,
        }
    }
}

async fn try_export(
    pool: &PgPool,
    filter: &DeliveryFilter,
    place: Place,
    remains: &Remains,
) -> Result<Option<ExportedLetter>, StoreError> {
    let row = export(filter, Some(place), remains.left_out()).fetch_optional(pool).await;
    let row = row.map_err(StoreError::query("export a dead letter"))?;
    row.as_ref().map(exported).transpose().map_err(StoreError::query("understand a dead letter"))
}

fn exported(row: &PgRow) -> Result<ExportedLetter, sqlx::Error> {
    let raw = |column: &str| {
        RawValue::from_string(row.try_get::<String, _>(column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    Ok(ExportedLetter {
        letter: dead_letter(row)?,
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        aggregate_version: row.try_get("aggregate_version")?,
        headers: raw("headers")?,
        payload: raw("payload")?,
        attempts_made: raw("attempts_made")?,
        damage: None,
    })
}

/// How many dead letters match, for each handler that has any.
pub async fn count_dead_letters(pool: &PgPool, filter: &DeliveryFilter) -> Result<Vec<DeliveryCount>, StoreError> {
    count_deliveries(pool, filter, Scope::All).await
}

pub(super) async fn count_deliveries(
    pool: &PgPool,
    filter: &DeliveryFilter,
    scope: Scope,
) -> Result<Vec<DeliveryCount>, StoreError> {
    let rows = filter
        .query(include_str!("sql/count_deliveries.sql"), scope)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("count the deliveries"))?;
    let count = |row: &PgRow| Ok(DeliveryCount { handler: row.try_get(0)?, count: row.try_get::<i64, _>(1)?.unsigned_abs() });
    rows.iter().map(count).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the deliveries"))
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
    actor: &str,
    text: &str,
) -> Result<u64, StoreError> {
    let mut transaction = begin(pool).await?;
    let noted = sqlx::query(include_str!("sql/insert_group_note.sql"))
        .bind(handler)
        .bind(group.0)
        .bind(storable(actor))
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

/// Gives up the dead letters that match for good; gives how many. `reason` is the person's.
pub async fn discard_dead_letters(pool: &PgPool, filter: &DeliveryFilter, actor: &str, reason: &str) -> Result<u64, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let discarded = filter
        .query(include_str!("sql/discard_dead_letters.sql"), Scope::All)
        .bind(storable(reason).into_owned())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("discard the dead letters"))?
        .rows_affected();
    if discarded == 0 {
        return Ok(0);
    }
    let (handler, asked) = (filter.handler.as_deref(), filter.to_json());
    let entry = AuditEntry { actor, action: "discard", handler, filter: &asked, affected: discarded, reason: Some(reason) };
    record_audit(&mut transaction, &entry).await?;
    // A key that was held behind one of them goes on.
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(discarded)
}
