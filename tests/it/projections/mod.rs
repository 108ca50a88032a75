//! Projections on the built binary: read tables that are built from the log exactly once, in versions beside one another.

mod code;
mod crashes;
mod once;
mod poison;
mod tutorial;
mod versions;

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::{Binary, Finished, NewRow, Running, TestDatabase, eventually};

/// For version N a table app.sales_N and a function app.project_sales_N. `applied` says what was projected and in which order, `effects` what
/// happened beyond the read tables. What an event asks for in `does` happens before: SQL that the function executes.
async fn database(versions: impl IntoIterator<Item = u32>) -> TestDatabase {
    let database = TestDatabase::create().await;
    database
        .execute(
            "create schema app;
             create table app.applied (place bigint generated always as identity, version int, event uuid, key text, n bigint, replayed boolean);
             create table app.effects (event uuid, version int);",
        )
        .await;
    for version in versions {
        database.execute(&sales(version)).await;
    }
    database
}

fn sales(version: u32) -> String {
    format!(
        "create table app.sales_{version} (key text primary key, total bigint not null, events bigint not null, version int not null default {version});
         create function app.project_sales_{version}(id uuid, type text, key text, payload jsonb, headers jsonb, occurred_at timestamptz, replaying boolean)
             returns void language plpgsql as $$
         begin
             if payload ? 'does' then
                 execute payload ->> 'does';
             end if;
             insert into app.sales_{version} as s (key, total, events) values (key, (payload ->> 'n')::bigint, 1)
                 on conflict on constraint sales_{version}_pkey do update set total = s.total + excluded.total, events = s.events + 1;
             insert into app.applied (version, event, key, n, replayed) values ({version}, id, key, (payload ->> 'n')::bigint, replaying);
             if not replaying then
                 insert into app.effects values (id, {version});
             end if;
         end $$;"
    )
}

/// An entry of the configuration.
fn entry(version: u32, more: &str) -> String {
    format!(
        "[[projections]]\nname = \"sales\"\nversion = {version}\nfunction = \"app.project_sales_{version}\"\ntarget = \"app.sales_{version}\"\n\
         view = \"app.sales\"\nevents = [\"order.*\"]\nbackfill = \"100000/s\"\n{more}\n"
    )
}

fn binary(database: &TestDatabase, entries: &[String]) -> Binary {
    Binary::relay(database.url(), &entries.concat())
}

fn row(key: impl ToString, n: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": n }))
}

/// An event for which the function executes this.
fn doing(key: impl ToString, n: i64, sql: &str) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": n, "does": sql }))
}

async fn number(database: &TestDatabase, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(database.pool())
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Waits until a version has seen so many events.
async fn wait_for_events(database: &TestDatabase, version: u32, count: i64) {
    let what = format!("projections where name = 'sales' and version = {version} and handled = {count}");
    eventually(&format!("version {version} has seen {count} events"), || async {
        (database.count(&what).await == 1).then_some(())
    })
    .await;
}

/// Waits until a version has read what was there when it began, so that what comes now is no history.
async fn wait_until_in_the_present(database: &TestDatabase, version: u32) {
    let what = format!("subscriptions where handler = 'sales@{version}' and snapshot::text <> '3:3:' and window_snapshot is null");
    eventually("the history is read", || async { (database.count(&what).await == 1).then_some(()) }).await;
}

/// Whether the table of a version says the same as the log.
async fn assert_equals_the_log(database: &TestDatabase, version: u32) {
    let differing = number(
        database,
        &format!(
            "select count(*) from (
                 select aggregate_type || '/' || aggregate_id as key, sum((payload ->> 'n')::bigint) as total, count(*) as events
                   from outbox.events where type like 'order.%' group by 1) l
               full join app.sales_{version} s using (key)
              where l.total is distinct from s.total or l.events is distinct from s.events"
        ),
    )
    .await;
    assert_eq!(differing, 0, "keys of app.sales_{version} differ from the log");
    // A version that was built again has seen them again.
    let out_of_order = number(
        database,
        &format!(
            "select count(*) from (
                 select a.key, e.seq, lag(e.seq) over (partition by a.key order by a.place) as before
                   from (select event, key, max(place) as place from app.applied where version = {version} group by event, key) a
                   join outbox.events e on e.id = a.event) o
              where o.seq < o.before"
        ),
    )
    .await;
    assert_eq!(out_of_order, 0, "version {version} has seen events of a key out of order");
}

/// Whether each event has had its effects once, whichever version was live.
async fn assert_each_had_its_effects_once(database: &TestDatabase) {
    let wrong = "select count(*) from outbox.events e
                  where e.type like 'order.%' and (select count(*) from app.effects f where f.event = e.id) <> 1";
    assert_eq!(number(database, wrong).await, 0, "events whose effects did not happen exactly once");
}

/// Runs a command that is expected to succeed.
async fn command(binary: &Binary, arguments: &[&str]) -> Finished {
    let finished = binary.run(arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
    finished
}

/// Runs a command that is expected to be refused, and gives what it says.
async fn refused(binary: &Binary, arguments: &[&str]) -> String {
    let finished = binary.run(arguments).await;
    assert!(!matches!(finished.code, Some(0) | None), "{arguments:?}: {}", finished.stderr);
    finished.stderr + &finished.stdout
}

/// A version as `projections list --json` tells it; null while no relay has served it.
async fn listed(binary: &Binary, version: u32) -> Value {
    let listed = command(binary, &["projections", "list", "--all", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("the list is JSON");
    let versions = listed["projections"].as_array().expect("a list");
    versions.iter().find(|one| one["name"] == "sales" && one["version"] == version).cloned().unwrap_or_default()
}

async fn wait_for_state(binary: &Binary, version: u32, state: &str) -> Value {
    eventually(&format!("version {version} is {state}"), || async {
        let one = listed(binary, version).await;
        (one["state"] == state).then_some(one)
    })
    .await
}

/// Ends it as a service manager does, and gives its log.
async fn stop(running: Running) -> String {
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stderr
}

fn id_of(value: &Value) -> Uuid {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is an id"))
}

/// Writers that commit at the same time, each several events in a transaction, some of which are rolled back. Gives how many were committed.
async fn write_concurrently(database: &TestDatabase, writers: i64, transactions: i64) -> i64 {
    let writing = (0..writers).map(|writer| {
        let pool = database.pool().clone();
        tokio::spawn(async move {
            let mut committed = 0;
            for at in 0..transactions {
                let mut transaction = pool.begin().await.expect("a transaction begins");
                for n in 0..3 {
                    sqlx::query("insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', $1, $2)")
                        .bind(format!("{writer}-{}", (at + n) % 7))
                        .bind(json!({ "n": at * 10 + n }))
                        .execute(&mut *transaction)
                        .await
                        .expect("the event is well formed");
                }
                if at % 5 == 4 {
                    transaction.rollback().await.expect("it rolls back");
                } else {
                    transaction.commit().await.expect("it commits");
                    committed += 3;
                }
            }
            committed
        })
    });
    let mut committed = 0;
    for writer in writing.collect::<Vec<_>>() {
        committed += writer.await.expect("no writer panics");
    }
    committed
}
