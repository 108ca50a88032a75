//! Dead letters: listed, grouped by what failed, exported, discarded. An operator's action is one transaction with its audit row,
//! and rings for the relay. Dead letters are never removed by age.

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
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::Timestamp;

/// One delivery that policy gave up on; in the sample of a replay perhaps one that was made.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// Of the event.
    pub id: Uuid,
    #[serde(rename = "type")]
    pub event_type: String,
    pub handler: String,
    pub partition: i32,
    #[serde(skip)]
    pub subscription: i32,
    #[schema(value_type = String)]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct DeliveryCount {
    pub handler: String,
    pub count: u64,
}

/// The last dead letter of a page: the next page begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterPlace {
    pub dead_since: Timestamp,
    pub seq: i64,
    pub subscription: i32,
}

impl DeadLetter {
    /// Where a page that ends with this letter ends.
    pub fn place(&self) -> Option<LetterPlace> {
        self.dead_since.map(|dead_since| LetterPlace { dead_since, seq: self.seq, subscription: self.subscription })
    }
}

/// The newest dead letters that match, behind a place if one is given, at most `limit`.
pub async fn list_dead_letters(
    pool: &PgPool,
    filter: &DeliveryFilter,
    after: Option<LetterPlace>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    list_deliveries(pool, filter, Scope::All, after, limit).await
}

pub(super) async fn list_deliveries(
    pool: &PgPool,
    filter: &DeliveryFilter,
    scope: Scope,
    after: Option<LetterPlace>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = filter
        .query(include_str!("sql/list_dead_letters.sql"), scope)
        .bind(i64::from(limit))
        .bind(after.map(|place| place.dead_since))
        .bind(after.map(|place| place.seq))
        .bind(after.map(|place| place.subscription))
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
        subscription: row.try_get("subscription")?,
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

/// The result of an act on the deliveries that a filter matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// So many were changed.
    Done(u64),
    /// Another number matched than was expected; nothing was changed.
    Drifted(u64),
}

/// Gives up the dead letters that match for good, if they are as many as expected. `reason` is the person's.
pub async fn discard_dead_letters(
    pool: &PgPool,
    filter: &DeliveryFilter,
    expected: Option<u64>,
    actor: Actor<'_>,
    reason: &str,
) -> Result<Acted, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let discarded = filter
        .query(include_str!("sql/discard_dead_letters.sql"), Scope::All)
        .bind(storable(reason).into_owned())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("discard the dead letters"))?
        .rows_affected();
    if expected.is_some_and(|expected| expected != discarded) {
        return Ok(Acted::Drifted(discarded)); // the transaction rolls back as it is dropped
    }
    if discarded == 0 {
        return Ok(Acted::Done(0));
    }
    let (handler, asked) = (filter.handler.as_deref(), filter.to_json());
    let entry = AuditEntry { actor, action: "discard", handler, filter: &asked, affected: discarded, reason: Some(reason) };
    record_audit(&mut transaction, &entry).await?;
    // A key that was held behind one of them goes on.
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Acted::Done(discarded))
}
