//! The kind `sql` on the built binary: what a function, its event or its session can do to a turn, and that each of it ends in a verdict
//! while all other events take effect once.

mod data;
mod deaths;
mod pool;
mod time;

use sqlx::AssertSqlSafe;

use crate::support::{Binary, NewRow, Running, TestDatabase, eventually};

/// Notes what it gets. What an event asks for in `does` happens before: SQL that the function executes.
const APPLICATION: &str = "
    create schema app;
    create table app.effects (n bigint, seq bigint generated always as identity, at xid8 default pg_current_xact_id());
    create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
    begin
        insert into app.effects (n) values ((payload ->> 'n')::bigint);
        if payload ? 'does' then
            execute payload ->> 'does';
        end if;
    end $$;";

const TAKE: &str = "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\nstart = \"beginning\"\n\
                    retry.base = \"50ms\"\nretry.max_delay = \"100ms\"\n";

async fn database() -> TestDatabase {
    let database = TestDatabase::create().await;
    database.execute(APPLICATION).await;
    database
}

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(serde_json::json!({ "n": number }))
}

/// An event for which the function executes this.
fn doing(key: impl ToString, number: i64, sql: &str) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(serde_json::json!({ "n": number, "does": sql }))
}

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

async fn texts(database: &TestDatabase, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(database.pool()).await.expect("the query of the test works")
}

async fn effects(database: &TestDatabase) -> Vec<i64> {
    sqlx::query_scalar("select n from app.effects order by seq").fetch_all(database.pool()).await.expect("the effects can be read")
}

/// Ends it as a service manager does, and gives its log.
async fn stop(running: Running) -> String {
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stderr
}

fn run(database: &TestDatabase, more: &str) -> Running {
    Binary::relay(database.url(), &format!("{TAKE}{more}")).spawn(&["run"])
}
