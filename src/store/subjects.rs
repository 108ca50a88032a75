//! Subjects: persons under whose keys an application encrypts values (migration 9). Destroys keys, and finds and removes what the outbox
//! knows of a person beside the events. Holds no master key and decrypts nothing.

use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::audit::lift_statement_timeout;
use super::functions::quoted_name;
use super::{StoreError, begin};
use crate::domain::Timestamp;

/// A person's key as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    pub subject: String,
    /// Id of the key.
    pub key: Uuid,
    /// Fingerprint of the master key; `None`: the key was destroyed.
    pub master: Option<String>,
    pub created_at: Timestamp,
    pub destroyed_at: Option<Timestamp>,
    /// Everything else was removed by then.
    pub walked_at: Option<Timestamp>,
}

/// A key that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DestroyedKey {
    pub subject: String,
    pub key: Uuid,
    pub at: Timestamp,
}

/// The events of a person.
#[derive(Debug, Clone, Default)]
pub struct SubjectEvents {
    pub seqs: Vec<i64>,
    pub ids: Vec<String>,
    /// Events that hold encrypted values of the person.
    pub with_values: u64,
    /// Events of the aggregate with the same name that hold none: what stands in them is not encrypted.
    pub without_values: u64,
}

/// Rows of one place that know something of the events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Table, or table and column.
    pub place: String,
    pub rows: i64,
}

/// A version of a projection that has read events of a person while they could be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubjectProjection {
    pub name: String,
    pub version: i32,
    pub target: Option<String>,
    pub is_live: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cleared {
    pub states: u64,
    pub texts: u64,
}

/// A key on its way from one master key to another.
#[derive(Debug, Clone)]
pub struct StoredKey {
    pub subject: String,
    pub key: Uuid,
    pub wrapped: Vec<u8>,
    pub master: String,
}

/// How envelopes name a person: as JSON writes it, and as `jsonb` writes it.
fn names(subject: &str) -> [String; 2] {
    let name = serde_json::Value::from(subject).to_string();
    [format!("\"subject\":{name}"), format!("\"subject\": {name}")]
}

pub async fn read_subject(executor: impl PgExecutor<'_>, subject: &str) -> Result<Option<Subject>, StoreError> {
    let error = || StoreError::query("read the key of a subject");
    let row = sqlx::query(include_str!("sql/read_subject.sql")).bind(subject).fetch_optional(executor).await.map_err(error())?;
    let read = |row: PgRow| {
        Ok(Subject {
            subject: row.try_get("subject")?,
            key: row.try_get("key")?,
            master: row.try_get("master")?,
            created_at: row.try_get("created_at")?,
            destroyed_at: row.try_get("destroyed_at")?,
            walked_at: row.try_get("walked_at")?,
        })
    };
    row.map(read).transpose().map_err(error())
}

/// Destroys the key. `None`: there is none, or it was destroyed before.
pub async fn destroy_key(connection: &mut PgConnection, subject: &str) -> Result<Option<DestroyedKey>, StoreError> {
    let error = || StoreError::query("destroy the key of a subject");
    let row = sqlx::query(include_str!("sql/destroy_subject_key.sql")).bind(subject).fetch_optional(connection).await;
    let read =
        |row: PgRow| Ok(DestroyedKey { subject: subject.to_owned(), key: row.try_get("key")?, at: row.try_get("destroyed_at")? });
    row.map_err(error())?.map(read).transpose().map_err(error())
}

/// Which of these subjects have a key.
pub async fn list_living(executor: impl PgExecutor<'_>, subjects: &[String]) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(include_str!("sql/list_living_subjects.sql"))
        .bind(subjects)
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("look for keys of subjects"))
}

/// Every key that was destroyed, the oldest first.
pub async fn list_destroyed(executor: impl PgExecutor<'_>) -> Result<Vec<DestroyedKey>, StoreError> {
    let error = || StoreError::query("list the destroyed keys");
    let rows = sqlx::query(include_str!("sql/list_destroyed_subjects.sql")).fetch_all(executor).await.map_err(error())?;
    let read = |row: &PgRow| {
        Ok(DestroyedKey { subject: row.try_get("subject")?, key: row.try_get("key")?, at: row.try_get("destroyed_at")? })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(error())
}

/// Finds the events of a person. Reads the whole log.
pub async fn find_events(pool: &PgPool, subject: &str) -> Result<SubjectEvents, StoreError> {
    let error = || StoreError::query("find the events of a subject");
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let [compact, spaced] = names(subject);
    let rows = sqlx::query(include_str!("sql/find_subject_events.sql"))
        .bind(compact)
        .bind(spaced)
        .bind(subject)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error())?;
    let mut events = SubjectEvents::default();
    for row in &rows {
        events.seqs.push(row.try_get("seq").map_err(error())?);
        events.ids.push(row.try_get::<Uuid, _>("id").map_err(error())?.to_string());
        match row.try_get("has_values").map_err(error())? {
            true => events.with_values += 1,
            false => events.without_values += 1,
        }
    }
    Ok(events) // rolled back as the transaction is dropped
}

/// What is known of these events from before the key was destroyed, place by place. Changes nothing.
pub async fn count_traces(pool: &PgPool, subject: &str, events: &SubjectEvents) -> Result<Vec<Trace>, StoreError> {
    let error = || StoreError::query("look for traces of a subject");
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let [compact, spaced] = names(subject);
    let rows = sqlx::query(include_str!("sql/count_subject_traces.sql"))
        .bind(&events.seqs)
        .bind(&events.ids)
        .bind(compact)
        .bind(spaced)
        .bind(subject)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error())?;
    let read = |row: &PgRow| Ok(Trace { place: row.try_get("place")?, rows: row.try_get("rows")? });
    rows.iter().map(read).collect::<Result<_, _>>().map_err(error())
}

/// Removes what is known of some events.
pub async fn clear_traces(connection: &mut PgConnection, seqs: &[i64], ids: &[String]) -> Result<Cleared, StoreError> {
    let error = || StoreError::query("remove traces of a subject");
    let row = sqlx::query(include_str!("sql/clear_subject_traces.sql")).bind(seqs).bind(ids).fetch_one(connection).await;
    let row = row.map_err(error())?;
    let count = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs).map_err(error());
    Ok(Cleared { states: count("states")?, texts: count("texts")? })
}

/// Removes the kept states that hold values of a person, whatever stream they are of.
pub async fn remove_states(connection: &mut PgConnection, subject: &str) -> Result<u64, StoreError> {
    let [compact, spaced] = names(subject);
    let removed = sqlx::query(include_str!("sql/remove_subject_states.sql")).bind(compact).bind(spaced).execute(connection).await;
    Ok(removed.map_err(StoreError::query("remove kept states of a subject"))?.rows_affected())
}

/// Versions of projections that have read these events while they could be decrypted.
pub async fn list_projections(pool: &PgPool, subject: &str, seqs: &[i64]) -> Result<Vec<SubjectProjection>, StoreError> {
    let error = || StoreError::query("list the projections that have read events of a subject");
    let rows = sqlx::query(include_str!("sql/list_subject_projections.sql")).bind(seqs).bind(subject).fetch_all(pool).await;
    let read = |row: &PgRow| {
        Ok(SubjectProjection {
            name: row.try_get("name")?,
            version: row.try_get("version")?,
            target: row.try_get("target")?,
            is_live: row.try_get("is_live")?,
        })
    };
    rows.map_err(error())?.iter().map(read).collect::<Result<_, _>>().map_err(error())
}

/// Calls a function of the application, `schema.name`, with the name of a person.
pub async fn call_function(connection: &mut PgConnection, function: &str, subject: &str) -> Result<(), StoreError> {
    let statement = include_str!("sql/call_forget_function.sql").replace("{function}", &quoted_name(function));
    let called = sqlx::query(AssertSqlSafe(statement)).bind(subject).execute(connection).await;
    called.map(drop).map_err(StoreError::query("call a function of [erasure] functions"))
}

/// The transactions that have read or used keys and still run: each may hold values in memory.
pub async fn list_key_readers(executor: impl PgExecutor<'_>) -> Result<Vec<String>, StoreError> {
    let read = sqlx::query_scalar(include_str!("sql/list_key_readers.sql")).fetch_all(executor).await;
    read.map_err(StoreError::query("look for transactions that have read keys"))
}

/// Whether one of them still runs.
pub async fn has_key_readers(executor: impl PgExecutor<'_>, readers: &[String]) -> Result<bool, StoreError> {
    let read = sqlx::query_scalar(include_str!("sql/has_key_readers.sql")).bind(readers).fetch_one(executor).await;
    read.map_err(StoreError::query("look for transactions that have read keys"))
}

/// Notes that everything was gone through.
pub async fn record_walk(connection: &mut PgConnection, subject: &str) -> Result<(), StoreError> {
    let recorded = sqlx::query(include_str!("sql/record_subject_walk.sql")).bind(subject).execute(connection).await;
    recorded.map(drop).map_err(StoreError::query("record that a subject was forgotten"))
}

/// Keys under another master key than this one, by name.
pub async fn list_keys_to_rewrap(pool: &PgPool, master: &str, after: &str, limit: i64) -> Result<Vec<StoredKey>, StoreError> {
    let error = || StoreError::query("read the keys to wrap anew");
    let rows = sqlx::query(include_str!("sql/list_keys_to_rewrap.sql")).bind(master).bind(after).bind(limit).fetch_all(pool).await;
    let read = |row: &PgRow| {
        Ok(StoredKey {
            subject: row.try_get("subject")?,
            key: row.try_get("key")?,
            wrapped: row.try_get("wrapped")?,
            master: row.try_get("master")?,
        })
    };
    rows.map_err(error())?.iter().map(read).collect::<Result<_, _>>().map_err(error())
}

/// Stores keys that are wrapped by another master key now: each with its former form.
pub async fn store_rewrapped(
    connection: &mut PgConnection,
    master: &str,
    keys: &[(StoredKey, Vec<u8>)],
) -> Result<u64, StoreError> {
    let stored = sqlx::query(include_str!("sql/store_rewrapped_keys.sql"))
        .bind(keys.iter().map(|(key, _)| key.subject.clone()).collect::<Vec<_>>())
        .bind(keys.iter().map(|(key, _)| key.wrapped.clone()).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, now)| now.clone()).collect::<Vec<_>>())
        .bind(master)
        .execute(connection)
        .await;
    Ok(stored.map_err(StoreError::query("store the keys"))?.rows_affected())
}

/// How many keys each master key wraps; `None`: destroyed.
pub async fn count_keys(pool: &PgPool) -> Result<Vec<(Option<String>, i64)>, StoreError> {
    let counted = sqlx::query_as(include_str!("sql/count_subject_keys.sql")).fetch_all(pool).await;
    counted.map_err(StoreError::query("count the keys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_looked_for_as_json_writes_it() {
        assert_eq!(names("a\"é/1"), ["\"subject\":\"a\\\"é/1\"", "\"subject\": \"a\\\"é/1\""]);
    }
}
