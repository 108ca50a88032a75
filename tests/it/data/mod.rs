//! Data is not an outage: whatever producers and receivers write, one row costs itself only. On the built relay and a real server:
//! hostile payloads and headers beside healthy events, keys longer than an index entry, values that the ledger refuses, events that
//! cannot be read, moments that no calendar has, databases in other encodings.

mod damage;
mod keys;
mod long_keys;
mod reading;
mod recording;
mod server;

use std::collections::BTreeMap;

use sqlx::Row;
use uuid::Uuid;

use crate::support::{Running, TestDatabase, eventually};

/// Inserts one event whose payload is exactly this text, as an application would, and gives its id.
async fn insert(database: &TestDatabase, aggregate: Option<&str>, payload: &str, headers: &str) -> Uuid {
    sqlx::query_scalar(
        "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers)
         values ('order.placed', 'order', $1, $2::json, $3::jsonb) returning id",
    )
    .bind(aggregate)
    .bind(payload)
    .bind(headers)
    .fetch_one(database.pool())
    .await
    .unwrap_or_else(|error| panic!("the table takes {payload} with {headers}: {error}"))
}

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

/// The outcomes of one handler by event: state, reason, key, attempts.
async fn outcomes(database: &TestDatabase, handler: &str) -> BTreeMap<Uuid, (String, Option<String>, Option<String>, i32)> {
    let rows = sqlx::query(
        "select e.id, d.state::text, d.reason, d.key, d.attempts
           from deliveries d join subscriptions s on s.id = d.subscription join events e on e.seq = d.seq where s.handler = $1",
    )
    .bind(handler)
    .fetch_all(database.pool())
    .await
    .expect("the outcomes can be read");
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3), row.get(4)))).collect()
}

async fn stop(running: Running) {
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}
