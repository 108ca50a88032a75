//! Disasters: what befalls the server, the machine or its neighbours, made on real servers, one theme a file. Each test names what is
//! left of the promises afterwards; `docs/guarantees.md` has the table.

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod backlog;
mod crashes;
mod failover;
mod limits;
mod neighbours;
mod outage;
mod payloads;
mod races;

use outboxd::launcher::Postgres;
use outboxd::{EmbeddedRelay, RelayBuilder};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use crate::support::{NewRow, Recorder, eventually, own_server, quick, quick_handler};

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

/// A relay with short intervals for the outbox at this address.
fn relay_at(url: &str, recorder: &Recorder) -> EmbeddedRelay {
    RelayBuilder::new(url)
        .configure(|config| {
            quick(config);
            config.database.connect_timeout = std::time::Duration::from_secs(2);
        })
        .configured_handler("all", recorder.handler(), quick_handler)
        .start()
        .expect("the relay starts")
}

/// A server of the test's own with an outbox in its database `postgres`, and the address of that.
async fn server_with_outbox(settings: &[(&str, &str)]) -> (Postgres, String) {
    let server = own_server(settings).await;
    let url = server.url("postgres");
    let options: PgConnectOptions = url.parse().expect("the launcher gives a valid address");
    let pool = PgPool::connect_with(options.options([("search_path", "outbox,pg_catalog,public")]));
    let pool = pool.await.expect("the server takes connections");
    outboxd::store::migrate(&pool, "outbox", None).await.expect("the migrations apply");
    pool.close().await;
    (server, url)
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the server takes connections")
}

/// Records these numbers, each in a transaction of its own.
async fn record(connection: &mut PgConnection, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        let insert = format!("insert into outbox.events (type, aggregate_id, payload) values ('t', '1', '{{\"n\": {number}}}')");
        connection.execute(AssertSqlSafe(insert)).await.expect("the event is well formed");
    }
}

async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.expect("a number")
}

/// Does something to a server that takes its time.
async fn change(mut server: Postgres, change: impl FnOnce(&mut Postgres) + Send + 'static) -> Postgres {
    let changing = tokio::task::spawn_blocking(move || {
        change(&mut server);
        server
    });
    changing.await.expect("no panic")
}

async fn wait_until_unready(relay: &EmbeddedRelay) {
    eventually("the relay says that it cannot work", || async { (!relay.health().ready).then_some(()) }).await;
}

async fn wait_until_ready(relay: &EmbeddedRelay) {
    eventually("the relay works", || async { relay.health().ready.then_some(()) }).await;
}
