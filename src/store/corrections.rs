//! Records a corrected copy of an event for the handler that gave up on it, and discards its dead letter. Both happen in one
//! transaction with the audit row, so a letter is never corrected twice and never lost in between.

use sqlx::{PgConnection, PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::filter::{DeliveryFilter, Scope};
use super::keys::MOST_FOLLOWERS;
use super::text::storable;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};

/// A correction that an operator asks for.
#[derive(Debug, Clone, Copy)]
pub struct NewCorrection<'a> {
    /// Id of the event that it becomes.
    pub id: Uuid,
    /// The event that it corrects.
    pub corrects: Uuid,
    /// The only handler that receives it.
    pub handler: &'a str,
    /// A JSON object, stored byte for byte.
    pub payload: &'a str,
    /// What the audit keeps of it, as a JSON object.
    pub asked: &'a str,
    pub actor: Actor<'a>,
    pub reason: &'a str,
    /// Also if deliveries wait behind the letter, which then go before the correction.
    pub force: bool,
}

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrected {
    Recorded,
    /// The same correction was recorded before; nothing was changed.
    Known,
    /// The id belongs to another event; nothing was changed.
    Taken,
    /// It is no dead letter of the handler (any more); nothing was changed.
    NotDead,
    /// So many deliveries of its key wait behind the letter; nothing was changed.
    Followed(u64),
    /// The handler does not want events of this type any more; nothing was changed.
    Unwanted,
}

/// Records the correction and discards the dead letter.
pub async fn correct_letter(pool: &PgPool, new: &NewCorrection<'_>) -> Result<Corrected, StoreError> {
    let mut transaction = begin(pool).await?;
    // Behind the lock of the letter: of two operators the second one sees what the first one did.
    let followers = lock_letter(&mut transaction, new).await?;
    match (find(&mut *transaction, new.id, new.corrects, new.handler, new.payload).await?, followers) {
        (Some(true), None) => return Ok(Corrected::Known),
        (Some(_), _) => return Ok(Corrected::Taken),
        (None, None) => return Ok(Corrected::NotDead),
        (None, Some(followers)) if followers > 0 && !new.force => return Ok(Corrected::Followed(followers)),
        (None, Some(_)) => {}
    }
    discard(&mut transaction, new).await?;
    insert(&mut transaction, new).await?;
    if !is_wanted(&mut transaction, new).await? {
        return Ok(Corrected::Unwanted); // the transaction rolls back as it is dropped
    }
    let entry = AuditEntry {
        actor: new.actor,
        action: "edit",
        handler: Some(new.handler),
        filter: new.asked,
        affected: 1,
        reason: Some(new.reason),
    };
    record_audit(&mut transaction, &entry).await?;
    // A key that the letter held goes on.
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Corrected::Recorded)
}

async fn lock_letter(connection: &mut PgConnection, new: &NewCorrection<'_>) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(include_str!("sql/lock_dead_letter.sql"))
        .bind(new.handler)
        .bind(new.corrects)
        .bind(MOST_FOLLOWERS)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("lock the dead letter"))?;
    let followers = |row: sqlx::postgres::PgRow| row.try_get::<i64, _>("followers").map(|count| count.max(0).unsigned_abs());
    row.map(followers).transpose().map_err(StoreError::query("understand the dead letter"))
}

/// Whether an event of the id exists, and whether it is this very correction.
async fn find(
    executor: impl PgExecutor<'_>,
    id: Uuid,
    corrects: Uuid,
    handler: &str,
    payload: &str,
) -> Result<Option<bool>, StoreError> {
    let found: Option<Option<bool>> = sqlx::query_scalar(include_str!("sql/find_correction.sql"))
        .bind(id)
        .bind(handler)
        .bind(corrects.to_string())
        .bind(payload)
        .fetch_optional(executor)
        .await
        .map_err(StoreError::query("find the correction"))?;
    Ok(found.map(|is_same| is_same.unwrap_or(false)))
}

/// Whether the event of this id is the correction of that event for this handler, with this payload.
pub async fn is_correction(pool: &PgPool, id: Uuid, corrects: Uuid, handler: &str, payload: &str) -> Result<bool, StoreError> {
    Ok(find(pool, id, corrects, handler, payload).await? == Some(true))
}

async fn discard(connection: &mut PgConnection, new: &NewCorrection<'_>) -> Result<(), StoreError> {
    let filter = DeliveryFilter { handler: Some(new.handler.to_owned()), ids: vec![new.corrects], ..DeliveryFilter::default() };
    let detail = format!("corrected by event {}: {}", new.id, new.reason);
    filter
        .query(include_str!("sql/discard_dead_letters.sql"), Scope::All)
        .bind(storable(&detail).into_owned())
        .execute(connection)
        .await
        .map_err(StoreError::query("discard the dead letter"))?;
    Ok(())
}

async fn insert(connection: &mut PgConnection, new: &NewCorrection<'_>) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/insert_correction.sql"))
        .bind(new.id)
        .bind(new.corrects)
        .bind(new.handler)
        .bind(new.payload)
        .execute(connection)
        .await
        .map_err(StoreError::query("record the correction"))?;
    Ok(())
}

/// Whether the handler will receive what was just recorded.
async fn is_wanted(connection: &mut PgConnection, new: &NewCorrection<'_>) -> Result<bool, StoreError> {
    let found = sqlx::query(include_str!("sql/find_owed_event.sql"))
        .bind(new.handler)
        .bind(new.id)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("find the correction"))?;
    Ok(found.is_some())
}

/// Corrections for a handler that it has not read yet.
pub(super) async fn count_unread_corrections(connection: &mut PgConnection, handler: &str) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(include_str!("sql/count_unread_corrections.sql"))
        .bind(handler)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("count the corrections"))?;
    Ok(count.max(0).unsigned_abs())
}

/// Whether an event is a version of a stream.
pub async fn is_sourced(pool: &PgPool, seq: i64) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(include_str!("sql/find_sourced.sql"))
        .bind([seq].as_slice())
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("look whether the event is sourced"))?;
    Ok(found.is_some())
}

/// The bound on one payload, in bytes.
pub async fn read_max_payload(pool: &PgPool) -> Result<u64, StoreError> {
    let bytes: i32 = sqlx::query_scalar(include_str!("sql/read_max_payload.sql"))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("read the bound on payloads"))?;
    Ok(u64::from(bytes.max(0).unsigned_abs()))
}
