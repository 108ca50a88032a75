//! What a person does with whole handlers while relays run: moving, holding, trying them, and reading the configuration again.

mod backfill;
mod hold;
mod model;
mod moves;
mod rebuild;
mod reload;
mod trial;

use serde_json::{Value, json};

use crate::support::{Binary, Finished, NewRow, TestDatabase};

/// A database that the commands recognise, which look for the table of migrations.
async fn migrated() -> TestDatabase {
    let database = TestDatabase::empty().await;
    database.migrate().await;
    database
}

/// Runs a command against a database, as ada.
async fn outboxd(database: &TestDatabase, arguments: &[&str]) -> Finished {
    Binary::with_config("").env("OUTBOXD_DATABASE_URL", database.url()).env("OUTBOXD_ACTOR", "ada").run(arguments).await
}

/// [`outboxd`] where it must succeed; its document.
async fn outboxd_json(database: &TestDatabase, arguments: &[&str]) -> Value {
    let finished = outboxd(database, &[arguments, &["--json"]].concat()).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// A row with a number, of an aggregate.
fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

/// Numbers from `from` to `to` over five keys, one transaction.
async fn insert(database: &TestDatabase, from: i64, to: i64) -> Vec<uuid::Uuid> {
    database.insert_events((from..=to).map(|number| numbered(number % 5, number))).await
}
