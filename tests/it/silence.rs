//! Connections to the database that fall silent while a statement is under way: neither end is told, new ones work. On the built binary
//! behind a proxy, held by a lock at the statement that is meant, so that the silence comes exactly there.

use std::time::Duration;

use outboxd::store::{self, Options};
use serde_json::json;
use sqlx::postgres::PgPool;
use sqlx::{Executor, PgConnection};

use crate::support::{Binary, NewRow, Proxy, Receiver, Running, TestDatabase, eventually};

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

/// A relay that knows the address of a proxy only, and gives an answer up after seven seconds.
async fn behind_proxy(database: &TestDatabase, handlers: &str) -> (Proxy, Running) {
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let text = format!(
        "[database]\nurl = \"{url}\"\nconnect_timeout = \"1s\"\nlock_timeout = \"900ms\"\nstatement_timeout = \"1s\"\n[http]\nlisten = \"\"\n\
         [relay]\nlease = \"3s\"\nflush_interval = \"20ms\"\n{handlers}"
    );
    (proxy, Binary::with_config(&text).spawn(&["run"]))
}

fn webhook(receiver: &Receiver) -> String {
    format!(
        "[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nstart = \"beginning\"\n",
        receiver.url()
    )
}

fn events() -> impl Iterator<Item = NewRow> {
    (0..20).map(|n| NewRow::new("order.placed").of("order", n % 3).payload(json!({ "n": n })))
}

/// Lets the connection of the relay fall silent on which a statement that begins like this waits for `gate`, which is opened then. The
/// others go on: whatever fails on them would have the loop begin anew and hide what is tested.
async fn fall_silent_at(database: &TestDatabase, proxy: &Proxy, mut gate: PgConnection, statement: &str) {
    let waiting = format!(
        "pg_stat_activity where datname = current_database() and application_name = 'outboxd relay' and wait_event_type = 'Lock' \
         and query like '{statement}%'"
    );
    eventually(statement, || async { (database.count(&waiting).await > 0).then_some(()) }).await;
    proxy.forget_waiting();
    gate.execute("rollback").await.expect("unlocked");
}

async fn stop(running: Running) {
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_begins_although_the_connection_falls_silent_while_it_asks_the_server_who_it_is() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    database.insert_events(events()).await;
    let mut gate = database.connect().await;
    gate.execute("begin; lock table outbox.incarnation in access exclusive mode").await.expect("locked");

    let (proxy, running) = behind_proxy(&database, &webhook(&receiver)).await;
    fall_silent_at(&database, &proxy, gate, "-- read_incarnation").await;

    wait_for_rows(&database, "deliveries where state = 'delivered'", 20).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_begins_although_the_connection_falls_silent_while_it_takes_its_subscription_up() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    database.insert_events(events()).await;
    let mut gate = database.connect().await;
    gate.execute("begin; lock table outbox.deliveries in access exclusive mode").await.expect("locked");

    let (proxy, running) = behind_proxy(&database, &webhook(&receiver)).await;
    fall_silent_at(&database, &proxy, gate, "-- take_back_waiting").await;

    wait_for_rows(&database, "deliveries where state = 'delivered'", 20).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_death_is_delivered_although_the_connection_falls_silent_while_an_attempt_is_counted() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let victim = Binary::relay(database.url(), &webhook(&receiver)).spawn(&["run"]);
    wait_for_rows(&database, "subscriptions where owner is not null", 1).await;
    victim.kill().await;
    database.insert_events(events()).await;
    // Rows that are about to be there: nobody sees them, and whoever inserts the same waits for what becomes of them.
    let mut gate = database.connect().await;
    gate.execute(
        "begin; insert into outbox.deliveries (subscription, seq, state, attempts)
         select s.id, e.seq, 'waiting', 0 from outbox.subscriptions s, outbox.events e",
    )
    .await
    .expect("locked");

    let (proxy, running) = behind_proxy(&database, &webhook(&receiver)).await;
    fall_silent_at(&database, &proxy, gate, "-- count_attempt").await;

    wait_for_rows(&database, "deliveries where state = 'delivered'", 20).await;
    stop(running).await;
}

/// Seen in a run under faults: loops that slept for the bell went on sleeping, for up to six minutes, while the listening session waited for the
/// answer to its unlock. Nobody looked at the log, and `status` knew no error.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_wakes_up_although_its_listening_session_falls_silent_while_it_takes_or_gives_back_the_bell() {
    for statement in ["pg_advisory_unlock(", "pg_try_advisory_lock(", "-- find_news"] {
        let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
        let (proxy, url) = Proxy::in_front_of(database.url()).await;
        // Partitions, because they do not follow the tail; and a second handler that does.
        let handlers = format!("{}partitions = 2\n[[handlers]]\nname = \"other\"\nkind = \"discard\"\n", webhook(&receiver));
        proxy.fall_silent_over(statement);
        let running = Binary::relay(&url, &handlers).spawn(&["run"]);
        running.wait_for_output("relay started").await;
        for round in 1..=3 {
            database.insert_events(events()).await;
            wait_for_rows(&database, "deliveries where state = 'delivered'", round * 40).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        stop(running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_take_effect_once_although_the_connection_falls_silent_during_a_call() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "create schema app;
             create table app.effects (n bigint);
             create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
             begin
                 perform pg_advisory_xact_lock_shared(42);
                 insert into app.effects (n) values ((payload ->> 'n')::bigint);
             end $$",
        )
        .await;
    database.insert_events(events()).await;
    let mut gate = database.connect().await;
    gate.execute("begin; select pg_advisory_xact_lock(42)").await.expect("locked");

    let take = "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\nstatement_timeout = \"2s\"\nstart = \"beginning\"\n";
    let (proxy, running) = behind_proxy(&database, take).await;
    fall_silent_at(&database, &proxy, gate, "-- call_function").await;

    wait_for_rows(&database, "deliveries where state = 'delivered'", 20).await;
    stop(running).await;
    let effects: Vec<i64> =
        sqlx::query_scalar("select n from app.effects order by n").fetch_all(database.pool()).await.expect("the effects");
    assert_eq!(effects, (0..20).collect::<Vec<_>>());
}

/// Seen: each wait that was given up left its silent connection with the pool, which waited on, and one place less for others.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_given_up_does_not_keep_its_place_in_the_pool() {
    let database = TestDatabase::create().await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let options = Options {
        url: &url,
        schema: "outbox",
        application_name: "outboxd relay",
        max_connections: 1,
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
        lock_timeout: Duration::ZERO,
    };
    let pool: PgPool = store::connect(&options).await.expect("connected");
    let mut gate = database.connect().await;
    gate.execute("begin; select pg_advisory_xact_lock(42)").await.expect("locked");
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.execute("select pg_advisory_lock(42)").await.map(drop) }
    });
    fall_silent_at(&database, &proxy, gate, "select pg_advisory_lock").await;
    waiting.abort();

    eventually("there is a place again", || async { pool.execute("select 1").await.ok() }).await;
}
