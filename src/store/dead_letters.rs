//! Dead letters: listed, looked into, replayed and discarded. What a person does is one transaction with its audit row, and rings
//! for the relay. Replays keep the order of each key; two at once never take the same row.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row};
use uuid::Uuid;

use super::audit::lift_statement_timeout;
use super::{AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::{EventFilter, Timestamp};

/// Which dead letters; every part that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeadLetterFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Glob over the type; `*` stands for any characters.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The ordering key, for an aggregate `type/id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why the last attempt failed: a word of `domain::Reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Event ids; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Uuid>,
}

/// One delivery that policy gave up on.
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
}

/// How many dead letters of one handler match.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeadCount {
    pub handler: String,
    pub dead: u64,
}

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// `None`: nothing was left to replay, and nothing was written.
    pub replay: Option<Uuid>,
    pub replayed: u64,
    /// Of these, due at once; the others wait for an earlier one of their key.
    pub due: u64,
}

impl DeadLetterFilter {
    /// As it is kept with a replay and in the audit.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts have a JSON form")
    }

    /// Binds $1 to $5. Unnamed, so that each run is planned for the parts that are set.
    fn query(&self, sql: &'static str) -> Query<'_, Postgres, PgArguments> {
        let types = EventFilter { types: self.event_type.iter().cloned().collect(), ..EventFilter::default() };
        sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(self.handler.as_deref())
            .bind(types.type_patterns().and_then(|mut patterns| patterns.pop()))
            .bind(self.key.as_deref())
            .bind(self.reason.as_deref())
            .bind((!self.ids.is_empty()).then_some(self.ids.as_slice()))
    }
}

/// The newest dead letters that match, at most `limit`.
pub async fn list_dead_letters(pool: &PgPool, filter: &DeadLetterFilter, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = filter
        .query(include_str!("sql/list_dead_letters.sql"))
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
    })
}

/// How many match, for each handler that has any.
pub async fn count_dead_letters(pool: &PgPool, filter: &DeadLetterFilter) -> Result<Vec<DeadCount>, StoreError> {
    let rows = filter
        .query(include_str!("sql/count_dead_letters.sql"))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("count the dead letters"))?;
    let count = |row: &PgRow| Ok(DeadCount { handler: row.try_get(0)?, dead: row.try_get::<i64, _>(1)?.unsigned_abs() });
    rows.iter().map(count).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the dead letters"))
}

/// Owes the dead letters that match once more, under the id `replay`.
pub async fn replay_dead_letters(
    pool: &PgPool,
    filter: &DeadLetterFilter,
    actor: &str,
    replay: Uuid,
) -> Result<Replayed, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    sqlx::query(include_str!("sql/lock_replays.sql"))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("wait for another replay to end"))?;
    let row = filter
        .query(include_str!("sql/replay_dead_letters.sql"))
        .bind(replay)
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("replay the dead letters"))?;
    let count = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let understand = StoreError::query("understand the replay");
    let (replayed, due) = (count(0).map_err(&understand)?, count(1).map_err(&understand)?);
    if replayed == 0 {
        return Ok(Replayed { replay: None, replayed, due });
    }
    let asked = filter.to_json();
    sqlx::query(include_str!("sql/insert_replay.sql"))
        .bind(replay)
        .bind(actor)
        .bind(filter.handler.as_deref())
        .bind(&asked)
        .bind(replayed.cast_signed())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("record the replay"))?;
    let handler = filter.handler.as_deref();
    let entry = AuditEntry { actor, action: "replay", handler, filter: &asked, affected: replayed, reason: None };
    record_audit(&mut transaction, &entry).await?;
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Replayed { replay: Some(replay), replayed, due })
}

/// Gives up the dead letters that match for good; gives how many. `reason` is the person's.
pub async fn discard_dead_letters(pool: &PgPool, filter: &DeadLetterFilter, actor: &str, reason: &str) -> Result<u64, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let discarded = filter
        .query(include_str!("sql/discard_dead_letters.sql"))
        .bind(reason)
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
