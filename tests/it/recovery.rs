//! What survives: a killed process, cut connections, a server that goes away, an event that kills, an orderly stop.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use outboxd::{RelayBuilder, Verdict};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::process::Command;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, example, own_server, quick, quick_handler, relay};

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

const APPLICATION: &str = "
    create schema app;
    create table app.effects (n bigint);
    create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language sql as $$
        insert into app.effects (n) values ((payload ->> 'n')::bigint)
    $$";

const TAKE: &str = "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_function_takes_effect_once_however_often_the_relay_is_killed() {
    const COUNT: i64 = 5_000;
    let database = TestDatabase::create().await;
    database.execute(APPLICATION).await;
    let binary = Binary::relay(database.url(), TAKE);
    let mut recorded = 0;
    for share in [1_u64, 3, 2, 4] {
        let running = binary.spawn(&["run"]);
        // Some before it has read, some while it works; the place of the kill differs from run to run.
        for chunk in 0..5 {
            let numbers = recorded + chunk * 250..recorded + (chunk + 1) * 250;
            database.insert_events(numbers.map(|number| numbered(number % 20, number))).await;
        }
        recorded += 1_250;
        let enough = recorded - 1_250 + i64::try_from(fastrand_like(share) % 1_250).expect("small");
        eventually("some are done", || async { (database.count("app.effects").await >= enough).then_some(()) }).await;
        running.kill().await;
    }
    let last = binary.spawn(&["run"]);
    wait_for_rows(&database, "deliveries where state = 'delivered'", COUNT).await;
    // Everything may have been delivered before; a signal in the first milliseconds would meet a process without a handler.
    last.wait_for_output("relay started").await;
    last.terminate();

    assert_eq!(last.finish().await.code, Some(0));
    assert_eq!(database.count("app.effects").await, COUNT);
    assert_eq!(database.count("(select distinct n from app.effects) e").await, COUNT);
}

/// A number that differs between runs.
fn fastrand_like(salt: u64) -> u64 {
    u64::from(Uuid::new_v4().as_bytes()[0]) * 5 + salt
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_delivered_although_the_connections_are_cut_again_and_again() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).configured_handler("all", recorder.handler(), quick_handler).start().expect("the relay starts");
    let mut count = 0;
    for cut in 1..=8 {
        let numbers = count..count + 200;
        count += 200;
        database.insert_events(numbers.map(|number| numbered(number % 10, number))).await;
        recorder.wait_for(150 * cut).await;
        database
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and application_name = 'outboxd relay'",
            )
            .await;
    }

    recorder.wait_for_ids(count as usize).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", count).await;

    relay.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_delivered_although_the_server_stops_and_crashes_under_load() {
    let mut server = own_server(&[]).await;
    let (url, recorder) = (server.url("postgres"), Recorder::new());
    let relay = RelayBuilder::new(url.clone())
        .configure(quick)
        .configured_handler("all", recorder.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    let producing = Arc::new(Semaphore::new(0));
    let (stop, address) = (Arc::clone(&producing), url.clone());
    let producer = tokio::spawn(async move {
        let mut number = 0;
        while stop.available_permits() == 0 {
            let Ok(mut connection) = PgConnection::connect(&address).await else { continue };
            while stop.available_permits() == 0 {
                number += 1;
                let insert = format!(
                    "insert into outbox.events (type, aggregate_id, payload) values ('t', '{}', '{{\"n\": {number}}}')",
                    number % 5
                );
                if connection.execute(AssertSqlSafe(insert)).await.is_err() {
                    break;
                }
            }
        }
    });

    for round in 1..=4 {
        let delivered = recorder.delivered().len();
        recorder.wait_for(delivered + 100).await;
        server = tokio::task::spawn_blocking(move || {
            if round % 2 == 0 {
                server.kill()
            } else {
                server.stop_fast()
            }
            server.start_again().expect("the server starts again");
            server
        })
        .await
        .expect("restarting does not panic");
    }
    let delivered = recorder.delivered().len();
    recorder.wait_for(delivered + 100).await;
    producing.add_permits(1);
    producer.await.expect("the producer works");

    let mut connection = PgConnection::connect(&url).await.expect("the server takes connections");
    let recorded: Vec<Uuid> =
        sqlx::query_scalar("select id from outbox.events").fetch_all(&mut connection).await.expect("the events");
    recorder.wait_for_ids(recorded.len()).await;
    relay.stop().await.expect("the relay stops");
    let delivered: BTreeSet<Uuid> = recorder.delivered().iter().map(|notification| notification.id).collect();
    assert_eq!(delivered, recorded.into_iter().collect::<BTreeSet<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_the_relay_again_and_again_becomes_a_dead_letter_and_the_others_arrive() {
    let (database, program) = (TestDatabase::create().await, example("crashing_relay").await);
    let rows =
        (1..=30).map(|number| if number == 10 { NewRow::new("poison").of("order", 3) } else { numbered(number % 7, number) });
    database.insert_events(rows).await;

    let start = || {
        let mut command = Command::new(&program);
        command.arg(database.url()).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).kill_on_drop(true);
        command.spawn().expect("the example starts")
    };
    let mut deaths = 0;
    let mut running = start();
    eventually("everything has an outcome", || {
        if running.try_wait().expect("the process is our child").is_some() {
            deaths += 1;
            running = start();
        }
        let database = &database;
        async move { (database.count("deliveries where state in ('delivered', 'dead')").await == 30).then_some(()) }
    })
    .await;
    running.kill().await.expect("the process can be killed");

    assert_eq!(deaths, 3, "one death that nobody counted before, and max_attempts that were");
    assert_eq!(database.count("deliveries where state = 'dead' and reason = 'crashed' and attempts = 2").await, 1);
    assert_eq!(database.count("events e join deliveries d using (seq) where e.type = 'poison' and d.state = 'dead'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_told_to_stop_finishes_what_is_in_flight() {
    let database = TestDatabase::create().await;
    let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (begins, waits) = (Arc::clone(&begun), Arc::clone(&go_on));
    let recorder = Recorder::answering_later(move |_, _| {
        let (begins, waits) = (Arc::clone(&begins), Arc::clone(&waits));
        async move {
            begins.add_permits(1);
            waits.acquire().await.expect("open").forget();
            Verdict::delivered()
        }
    });
    let relay = relay(&database).configured_handler("slow", recorder.handler(), quick_handler).start().expect("the relay starts");
    database.insert_events([numbered("a", 1), numbered("a", 2), numbered("b", 3)]).await;
    begun.acquire_many(2).await.expect("open").forget();

    // Once it says that it is stopping it begins nothing: what is behind the one in flight stays where it is.
    relay.begin_stop();
    eventually("it says that it is stopping", || async {
        relay.health().reasons.iter().any(|reason| reason.contains("stopping")).then_some(())
    })
    .await;
    assert_eq!(database.count("subscriptions where owner is not null").await, 1);
    go_on.add_permits(2);
    relay.stop().await.expect("the relay stops");

    assert_eq!(database.count("deliveries where state = 'delivered' and attempts = 1").await, 2);
    assert_eq!(database.count("subscriptions where owner is null").await, 1);
    assert_eq!(recorder.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_within_the_drain_timeout_is_released_uncounted() {
    let database = TestDatabase::create().await;
    let hanging = Recorder::answering_later(|_, _| std::future::pending());
    let relay_before = relay(&database)
        .configure(|config| config.relay.drain_timeout = Duration::from_millis(200))
        .configured_handler("slow", hanging.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;
    hanging.wait_for_calls(1).await;
    relay_before.stop().await.expect("the relay stops");
    assert_eq!(database.count("deliveries").await + database.count("attempts").await, 0);

    let recorder = Recorder::new();
    let relay_after =
        relay(&database).configured_handler("slow", recorder.handler(), quick_handler).start().expect("the relay starts");
    recorder.wait_for(1).await;
    relay_after.stop().await.expect("the relay stops");
    assert_eq!(recorder.calls()[0].attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_the_daemon_after_what_is_in_flight() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "create schema app;
             create table app.effects (n bigint);
             create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
             begin
                 insert into app.effects (n) values ((payload ->> 'n')::bigint);
                 perform pg_advisory_xact_lock_shared(43);
             end $$",
        )
        .await;
    let mut gate = database.connect().await;
    gate.execute("select pg_advisory_lock(43)").await.expect("locked");
    let running = Binary::relay(database.url(), &format!("{TAKE}lock_timeout = \"60s\"")).spawn(&["run"]);
    database.insert_event(numbered("a", 1)).await;
    let at_the_gate = "pg_locks where locktype = 'advisory' and objid = 43 and not granted
                       and database = (select oid from pg_database where datname = current_database())";
    wait_for_rows(&database, at_the_gate, 1).await;

    running.terminate();
    running.wait_for_output("stopping").await;
    gate.execute("select pg_advisory_unlock(43)").await.expect("unlocked");
    let finished = running.finish().await;

    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(database.count("app.effects").await, 1);
    assert_eq!(database.count("deliveries where state = 'delivered'").await, 1);
    assert_eq!(database.count("subscriptions where owner is null").await, 1);
}
