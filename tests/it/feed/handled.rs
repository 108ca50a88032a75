//! Waiting until handlers are done with an event: `GET /v1/events/{id}`, `uow::wait_until_handled`, `outboxd events wait`.

use std::time::{Duration, Instant};

use outboxd::domain::Stage;
use outboxd::uow::{Waited, wait_until_handled, wait_until_handled_in};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::client::{Answer, Served, ask};
use crate::support::{Binary, NewRow, Proxy, TestDatabase};

const SETTINGS: &str = "[feed]\nevents = [\"order.*\", \"other\"]\nlisten = \"127.0.0.1:0\"\n\
    [[clients]]\nname = \"all\"\ntokens = [\"token-of-all-0123456789\"]\nevents = [\"order.*\"]\nhandlers = [\"stock\", \"quiet\", \"billing\"]\n\
    [[handlers]]\nname = \"stock\"\nkind = \"sql\"\nfunction = \"app.effect\"\nevents = [\"order.*\"]\nstart = \"beginning\"\n\
    [[handlers]]\nname = \"quiet\"\nkind = \"discard\"\nrecord = \"failures\"\npartitions = 3\nevents = [\"order.*\"]\nstart = \"beginning\"\n\
    [[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\negress = \"any\"\nevents = [\"order.refused\"]\n";

async fn served() -> (TestDatabase, Served) {
    let database = TestDatabase::create().await;
    let function = "create schema app; create table app.effects (id uuid primary key);
        create function app.effect(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as
        'begin perform pg_sleep(0.05); insert into app.effects values (id); end'";
    database.execute(function).await;
    let served = Served::start(&database, SETTINGS).await;
    (database, served)
}

async fn wait_for(served: &Served, id: Uuid, query: &str) -> Answer {
    served.ask(&format!("/v1/events/{id}?{query}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn handled_is_never_said_before_the_effect_is_there_and_a_commit_is_waited_for_too() {
    let (database, served) = served().await;
    let mut connection = PgConnection::connect(database.url()).await.expect("a connection");
    for _ in 0..20 {
        let mut transaction = connection.begin().await.expect("a transaction begins");
        let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', '1', '{}') returning id";
        let id: Uuid = sqlx::query_scalar(insert).fetch_one(&mut *transaction).await.expect("recorded");
        let early = wait_for(&served, id, "").await;
        assert_eq!((early.status, &early.json()["type"]), (404, &json!("urn:outboxd:not-found")), "it is not committed");
        let (answer, ()) = tokio::join!(wait_for(&served, id, "wait=30s&handlers=stock,quiet"), async {
            transaction.commit().await.expect("committed");
        });
        // Looked at with the answer in hand, in a session that knows nothing of the relay.
        let effects = database.count(&format!("app.effects where id = '{id}'")).await;
        assert_eq!((answer.status, effects), (200, 1), "{answer:?}");
        let states = json!({ "stock": { "state": "handled" }, "quiet": { "state": "handled" } });
        assert_eq!((&answer.json()["handled"], &answer.json()["handlers"]), (&json!(true), &states));
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_in_time_and_says_what_is_pending_and_why() {
    let (database, served) = served().await;
    let refused = database.insert_event(NewRow::new("order.refused").of("order", 1)).await;
    let began = Instant::now();
    let pending = wait_for(&served, refused, "wait=2s").await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(20), "{took:?}");
    let told = pending.json();
    assert_eq!((pending.status, &told["handled"], pending.header("retry-after")), (202, &json!(false), Some("1")));
    assert_eq!(told["handlers"]["stock"], json!({ "state": "handled" }));
    let billing = &told["handlers"]["billing"];
    let is_held = billing["state"] == "retrying" || billing["circuit_open"] == true;
    assert!(is_held && billing["state"] != "handled", "{told}");

    let placed = database.insert_event(NewRow::new("order.placed").of("order", 2)).await;
    let told = wait_for(&served, placed, "wait=30s").await.json();
    assert_eq!((&told["handled"], &told["handlers"]["billing"]["state"]), (&json!(true), &json!("unwanted")));

    // An event that it may not see is like one that never was, and so are handlers of others.
    let foreign = database.insert_event(NewRow::new("other").of("order", 3)).await;
    for id in [foreign, Uuid::nil()] {
        let began = Instant::now();
        assert_eq!(wait_for(&served, id, "wait=300ms").await.status, 404);
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
    for (path, status) in [
        (format!("/v1/events/{placed}?handlers=feed"), 400),
        (format!("/v1/events/{placed}?handlers="), 400),
        (format!("/v1/events/{placed}?handlers=stock,nobody"), 400),
        ("/v1/events/x".to_owned(), 400),
        (format!("/v1/events/{placed}/more"), 404),
    ] {
        assert_eq!(served.ask(&path).await.status, status, "{path}");
    }
    assert_eq!(ask(&served.address, &format!("/v1/events/{placed}"), &[]).await.expect("answered").status, 401);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_waits_with_a_pool_of_its_own_and_a_script_with_the_command() {
    let (database, served) = served().await;
    // As an application connects: with a role that may look and no more, and without the schema in its path.
    database
        .execute(
            "create role looker login; grant usage on schema outbox to looker;
             grant select on outbox.events, outbox.subscriptions, outbox.deliveries to looker",
        )
        .await;
    let mut url = url::Url::parse(database.url()).expect("an address");
    url.set_username("looker").expect("it takes a user");
    database.execute(&format!("alter role looker password '{}'", url.password().expect("a password"))).await;
    let pool = PgPool::connect(url.as_str()).await.expect("a pool");
    for _ in 0..10 {
        let mut transaction = database.pool().begin().await.expect("a transaction begins");
        let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', '1', '{}') returning id";
        let id: Uuid = sqlx::query_scalar(insert).fetch_one(&mut *transaction).await.expect("recorded");
        let early = wait_until_handled(&pool, id, &["stock"], Duration::ZERO).await;
        assert_eq!(early.expect("looked"), Waited::Unknown, "it is not committed");
        let (waited, ()) = tokio::join!(wait_until_handled(&pool, id, &["stock", "quiet"], Duration::from_secs(30)), async {
            transaction.commit().await.expect("committed");
        });
        let effects = database.count(&format!("app.effects where id = '{id}'")).await;
        assert_eq!((waited.expect("waited"), effects), (Waited::Handled, 1));
    }
    let path: String = sqlx::query_scalar("show search_path").fetch_one(&pool).await.expect("a path");
    assert!(!path.contains("outbox"), "{path}: the session of the application is as it was");

    let refused = database.insert_event(NewRow::new("order.refused").of("order", 1)).await;
    let began = Instant::now();
    let handlers = ["stock", "billing", "nobody"];
    let waited = wait_until_handled(&pool, refused, &handlers, Duration::from_secs(3)).await.expect("waited");
    let pending = |name: &str| (name.to_owned(), Stage::Pending);
    assert_eq!(waited, Waited::Unfinished(vec![pending("billing"), pending("nobody")]));
    assert!(began.elapsed() >= Duration::from_secs(3));

    assert_eq!(wait_until_handled(&pool, refused, &[], Duration::ZERO).await.expect("looked"), Waited::Handled, "it is committed");

    // By the command: the same, with why.
    let binary = Binary::relay(database.url(), SETTINGS);
    let id = refused.to_string();
    let finished = binary.run(&["events", "wait", &id, "--timeout", "300ms", "--json"]).await;
    let told: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((finished.code, &told["handled"], &told["handlers"]["stock"]["state"]), (Some(1), &json!(false), &json!("handled")));
    let finished = binary.run(&["events", "wait", &id, "--handlers", "stock,quiet"]).await;
    assert!(
        finished.code == Some(0) && finished.stdout.contains("handled") && !finished.stdout.contains("billing"),
        "{finished:?}"
    );
    let finished = binary.run(&["events", "wait", &id, "--handlers", "stok"]).await;
    assert!(finished.code == Some(64) && finished.stderr.contains("stok"), "{finished:?}");
    let finished = binary.run(&["events", "wait", &Uuid::nil().to_string(), "--timeout", "100ms"]).await;
    assert!(finished.code == Some(1) && finished.stderr.contains("there was no event"), "{finished:?}");

    // What it does not know ends the wait at once; and rows that it may not see are an error, never "handled".
    assert!(wait_until_handled_in(&pool, "elsewhere", refused, &["stock"], Duration::from_secs(30)).await.is_err());
    database.execute("alter table outbox.deliveries enable row level security").await;
    assert!(wait_until_handled(&pool, refused, &["billing"], Duration::from_secs(30)).await.is_err());
    served.stop().await;
    pool.close().await;
    database.execute("drop owned by looker; drop role looker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_goes_on_over_connections_that_fall_silent_and_does_not_outlive_its_time() {
    let (database, served) = served().await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let pool = PgPool::connect(&url).await.expect("a pool");
    let mut transaction = database.pool().begin().await.expect("a transaction begins");
    let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', '1', '{}') returning id";
    let id: Uuid = sqlx::query_scalar(insert).fetch_one(&mut *transaction).await.expect("recorded");
    let (waited, ()) = tokio::join!(wait_until_handled(&pool, id, &["stock"], Duration::MAX), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.forget();
        transaction.commit().await.expect("committed");
    });
    assert_eq!(waited.expect("another connection answers"), Waited::Handled);
    proxy.swallow();
    let began = Instant::now();
    assert!(wait_until_handled(&pool, Uuid::nil(), &["stock"], Duration::from_secs(1)).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    served.stop().await;
}
