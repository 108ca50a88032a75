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
    /// The error of the server or of the connection.
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
        record_all(connection, schema, events, Within::Any).await?;
    }
    Ok(events.iter().map(NewEvent::id).collect())
}

/// Which transaction the events may be recorded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// Whichever runs.
    Any,
    /// That of a unit of work, as long as it bears its mark; in any other the statement fails and records nothing.
    Unit,
}

/// Inserts at least one event, and gives the number of the transaction.
pub(super) async fn record_all(
    connection: &mut PgConnection,
    schema: &str,
    events: &[NewEvent],
    within: Within,
) -> Result<TransactionId, RecordError> {
    // What stands in the payload is a mark, and nothing could be read from it.
    if let Some(value) = events.iter().find_map(|event| event.shredded.first()) {
        let cause =
            sqlx::Error::Encode(format!("a shredded value of subject {} is recorded only by a unit of work", value.subject).into());
        return Err(RecordError { count: events.len(), cause });
    }
    let recorded = match events {
        [event] => record_one(connection, schema, event, within).await,
        several => record_several(connection, schema, several, within).await,
    };
    let parsed = recorded.and_then(|id| super::transaction::parse(&id).map_err(|error| sqlx::Error::Decode(Box::new(error))));
    parsed.map_err(|cause| RecordError { count: events.len(), cause })
}

async fn record_one(connection: &mut PgConnection, schema: &str, event: &NewEvent, within: Within) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(in_schema(include_str!("../store/sql/record_event.sql"), schema, within)))
        .bind(event.id)
        .bind(&event.event_type)
        .bind(&event.aggregate_type)
        .bind(&event.aggregate_id)
        .bind(event.aggregate_version)
        .bind(event.payload.to_string())
        .bind(headers(event))
        .bind(event.occurred_at.map(micros_since_1970))
        .fetch_one(connection)
        .await
}

async fn record_several(
    connection: &mut PgConnection,
    schema: &str,
    events: &[NewEvent],
    within: Within,
) -> Result<String, sqlx::Error> {
    let column = |of: fn(&NewEvent) -> Option<&String>| events.iter().map(of).map(Option::<&String>::cloned).collect::<Vec<_>>();
    let columns = Columns::of(events);
    sqlx::query_scalar(AssertSqlSafe(in_schema(include_str!("../store/sql/record_events.sql"), schema, within)))
        .bind(columns.ids)
        .bind(columns.types)
        .bind(column(|event| event.aggregate_type.as_ref()))
        .bind(column(|event| event.aggregate_id.as_ref()))
        .bind(events.iter().map(|event| event.aggregate_version).collect::<Vec<_>>())
        .bind(columns.payloads)
        .bind(columns.headers)
        .bind(columns.occurred_micros)
        .fetch_one(connection)
        .await
}

/// Events as arrays, the parts that every insert has.
pub(super) struct Columns {
    pub ids: Vec<Uuid>,
    pub types: Vec<String>,
    pub payloads: Vec<String>,
    pub headers: Vec<String>,
    pub occurred_micros: Vec<Option<i64>>,
}

impl Columns {
    pub(super) fn of(events: &[NewEvent]) -> Self {
        Self {
            ids: events.iter().map(NewEvent::id).collect(),
            types: events.iter().map(|event| event.event_type.clone()).collect(),
            payloads: events.iter().map(|event| event.payload.to_string()).collect(),
            headers: events.iter().map(headers).collect(),
            occurred_micros: events.iter().map(|event| event.occurred_at.map(micros_since_1970)).collect(),
        }
    }
}

fn headers(event: &NewEvent) -> String {
    serde_json::to_string(&event.headers).expect("a map of JSON values is JSON")
}

// The header of the file is for readers of the source; the server would read it with every new text.
fn in_schema(statement: &str, schema: &str, within: Within) -> String {
    let body = statement.find("with recorded").map_or(statement, |start| &statement[start..]);
    let statement = body.replacen("outbox.events", &super::qualified(schema, "events"), 1);
    match within {
        Within::Any => statement,
        // Asked for in the statement that inserts: one before it would cost a round trip, one behind it would find the events committed.
        Within::Unit => marked(&statement),
    }
}

fn marked(statement: &str) -> String {
    const LAST: &str = include_str!("../store/sql/read_marked_transaction.sql");
    let (recording, _) = statement.rsplit_once("select ").unwrap_or((statement, ""));
    let (_, last) = LAST.split_once("\nselect ").unwrap_or(("", LAST));
    format!("{recording}select {last}")
}

fn micros_since_1970(moment: std::time::SystemTime) -> i64 {
    let micros = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    moment.duration_since(std::time::UNIX_EPOCH).map_or_else(|before| -micros(before.duration()), micros)
}
