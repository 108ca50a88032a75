//! Recording: one statement for any number of events.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::domain::NewEvent;

/// Why events could not be recorded. The transaction is aborted, as after any failed statement.
#[derive(Debug, thiserror::Error)]
#[error("could not record {count} events")]
pub struct RecordError {
    pub count: usize,
    #[source]
    pub cause: sqlx::Error,
}

/// Inserts events into the outbox of schema `outbox`, in the given order, in the transaction of `connection`.
/// Insert after the write or the lock that orders the aggregate. Returns the ids in the same order.
pub async fn record(connection: &mut PgConnection, events: &[NewEvent]) -> Result<Vec<Uuid>, RecordError> {
    record_in(connection, "outbox", events).await
}

/// [`record`] for an outbox that lives in another schema.
pub async fn record_in(connection: &mut PgConnection, schema: &str, events: &[NewEvent]) -> Result<Vec<Uuid>, RecordError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = events.iter().map(NewEvent::id).collect();
    let table = format!("\"{}\".events", schema.replace('"', "\"\""));
    let statement = include_str!("../store/sql/record_events.sql").replace("outbox.events", &table);
    sqlx::query(AssertSqlSafe(statement))
        .bind(&ids)
        .bind(events.iter().map(|event| event.event_type.clone()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.aggregate_type.clone()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.aggregate_id.clone()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.aggregate_version).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.payload.to_string()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| serde_json::Value::Object(event.headers.clone()).to_string()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(|cause| RecordError { count: events.len(), cause })?;
    Ok(ids)
}
