//! Streams: event-sourced aggregates on the same log. What is appended, kept, folded and read.

mod account;
mod append;
mod foreign;
mod keeping;
mod reading;
mod sourcing;
mod states;
mod storms;

use serde_json::{Value, json};
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::support::TestDatabase;

/// An append in SQL, as another language makes it.
async fn append(connection: &mut PgConnection, key: &str, expected: &str, events: Value) -> Result<i64, Refusal> {
    let appended = sqlx::query_scalar("select outbox.append('account', $1, $2::text, $3)").bind(key).bind(expected).bind(events);
    appended.fetch_one(connection).await.map_err(Refusal::of)
}

/// The same, in a transaction of its own.
async fn appended(database: &TestDatabase, key: &str, expected: &str, events: Value) -> Result<i64, Refusal> {
    append(&mut database.pool().acquire().await.expect("a connection"), key, expected, events).await
}

/// So many events without ids.
fn earned(points: impl IntoIterator<Item = i64>) -> Value {
    points.into_iter().map(|points| json!({ "type": "points.earned", "payload": { "points": points } })).collect()
}

#[derive(Debug, PartialEq)]
struct Refusal {
    code: String,
    message: String,
    detail: String,
}

impl Refusal {
    fn of(error: sqlx::Error) -> Self {
        let error = error.into_database_error().unwrap_or_else(|| panic!("the server refuses it"));
        let error = error.downcast_ref::<PgDatabaseError>();
        Self {
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
        }
    }
}

/// What a stream is made of, in its order: versions and payloads.
async fn stream(pool: &PgPool, key: &str) -> Vec<(i64, Value)> {
    let sql = "select v.version, e.payload from outbox.streams s join outbox.stream_events v on v.stream = s.id
                 join outbox.events e on e.seq = v.seq where s.type = 'account' and s.key = $1 order by v.version";
    sqlx::query_as(sql).bind(key).fetch_all(pool).await.expect("the stream can be read")
}

/// The points of a stream, in its order.
async fn points(pool: &PgPool, key: &str) -> Vec<i64> {
    stream(pool, key).await.iter().map(|(_, payload)| payload["points"].as_i64().expect("points are a number")).collect()
}

async fn number(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}
