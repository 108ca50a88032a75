//! Recording: one statement for any number of events.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::TransactionId;
use crate::domain::NewEvent;

/// Why events could not be recorded. The transaction is aborted, as after any failed statement.
#[derive(Debug, thiserror::Error)]
#[error("could not record {count} events")]
pub struct RecordError {
    /// Events that were to be recorded, none of which was.
    pub count: usize,
    /// What the server, or the way to it, said.
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
    if !events.is_empty() {
        record_all(connection, schema, events).await?;
    }
    Ok(events.iter().map(NewEvent::id).collect())
}

/// Inserts at least one event, and gives the number of the transaction.
pub(super) async fn record_all(
    connection: &mut PgConnection,
    schema: &str,
    events: &[NewEvent],
) -> Result<TransactionId, RecordError> {
    let failed = |cause| RecordError { count: events.len(), cause };
    let column = |of: fn(&NewEvent) -> Option<String>| events.iter().map(of).collect::<Vec<_>>();
    let transaction: String = sqlx::query_scalar(AssertSqlSafe(statement(schema)))
        .bind(events.iter().map(NewEvent::id).collect::<Vec<_>>())
        .bind(column(|event| Some(event.event_type.clone())))
        .bind(column(|event| event.aggregate_type.clone()))
        .bind(column(|event| event.aggregate_id.clone()))
        .bind(events.iter().map(|event| event.aggregate_version).collect::<Vec<_>>())
        .bind(column(|event| Some(event.payload.to_string())))
        .bind(column(|event| serde_json::to_string(&event.headers).ok()))
        .bind(events.iter().map(|event| event.occurred_at.map(micros_since_1970)).collect::<Vec<_>>())
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    super::transaction::parse(&transaction).map_err(|error| failed(sqlx::Error::Decode(Box::new(error))))
}

fn statement(schema: &str) -> String {
    include_str!("../store/sql/record_events.sql").replace("outbox.events", &super::qualified(schema, "events"))
}

fn micros_since_1970(moment: std::time::SystemTime) -> i64 {
    let micros = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    moment.duration_since(std::time::UNIX_EPOCH).map_or_else(|before| -micros(before.duration()), micros)
}
