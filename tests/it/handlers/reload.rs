//! Another configuration while the relay runs: what differs is applied, what does not is left alone, and a mistake changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxd::store::ReloadOutcome;
use outboxd::{RelayBuilder, Verdict};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::{insert, migrated, numbered};
use crate::support::{Answer, Binary, Receiver, Recorder, Running, TestDatabase, eventually, number, relay};

fn webhook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n{more}\n", receiver.url())
}

/// A relay that owns its handlers.
async fn started(database: &TestDatabase, binary: &Binary, handlers: i64) -> Running {
    let running = binary.spawn(&["run"]);
    eventually("the relay owns its handlers", || async {
        (database.count("subscriptions where owner is not null and epoch > 1").await == handlers).then_some(())
    })
    .await;
    running
}

/// Asks for a reload and gives the code and the one answer.
async fn reload(binary: &Binary) -> (Option<i32>, Value) {
    let finished = binary.run(&["reload", "--json"]).await;
    let document: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert_eq!(document["relays"].as_array().map(Vec::len), Some(1), "{document}");
    (finished.code, document["relays"][0].clone())
}

/// An address on which nobody listens at the moment.
async fn free_address() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address").to_string()
}

async fn metrics(address: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the relay serves HTTP");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("it takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

async fn epoch_of(database: &TestDatabase, handler: &str) -> i64 {
    sqlx::query_scalar("select epoch from outbox.subscriptions where handler = $1")
        .bind(handler)
        .fetch_one(database.pool())
        .await
        .expect("it is registered")
}

#[tokio::test]
async fn a_changed_url_takes_effect_for_the_next_attempt_and_no_other_handler_notices() {
    let (database, old, other, new) = (migrated().await, Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let binary = Binary::relay(database.url(), &[webhook("a", &old, ""), webhook("b", &other, "")].concat());
    let _relay = started(&database, &binary, 2).await;
    insert(&database, 1, 10).await;
    old.wait_for(10).await;
    other.wait_for(10).await;
    let epoch = epoch_of(&database, "b").await;

    binary.rewrite(&Binary::relay_config(database.url(), &[webhook("a", &new, ""), webhook("b", &other, "")].concat()));
    let (code, answer) = reload(&binary).await;
    assert_eq!((code, &answer["outcome"], &answer["changed"]), (Some(0), &"applied".into(), &serde_json::json!(["a"])));
    let ids = insert(&database, 11, 20).await;
    let received = new.wait_for(10).await;
    other.wait_for(20).await;

    let mut got: Vec<String> = received.iter().map(|request| request.id.clone()).collect();
    got.sort_unstable();
    let mut want: Vec<String> = ids.iter().map(ToString::to_string).collect();
    want.sort_unstable();
    assert_eq!(got, want, "each once, and nothing that was delivered before");
    assert_eq!((old.received().len(), epoch_of(&database, "b").await), (10, epoch));
    let (code, answer) = reload(&binary).await;
    assert_eq!((code, &answer["outcome"]), (Some(0), &"unchanged".into()));
    assert_eq!(database.count("audit where action = 'reload'").await, 2);
}

#[tokio::test]
async fn a_mistake_keeps_the_old_configuration_and_says_why_where_people_look() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let address = free_address().await;
    let config = |more| {
        let config = Binary::relay_config(database.url(), &webhook("a", &receiver, more));
        config.replace("listen = \"\"", &format!("listen = \"{address}\""))
    };
    let binary = Binary::with_config(&config(""));
    let relay = started(&database, &binary, 1).await;

    binary.rewrite(&config("time_out = \"5s\"\nsecrets = [\"hunter2\"]"));
    let here = binary.run(&["reload"]).await;
    assert_eq!(
        (here.code, here.stderr.contains("time_out")),
        (Some(64), true),
        "beside the file nobody needs to be asked: {here:?}"
    );
    // Somewhere else nobody sees the file; the relay says what is wrong with it.
    let elsewhere = Binary::with_config("").env("OUTBOXD_DATABASE_URL", database.url());
    let (code, answer) = reload(&elsewhere).await;
    assert_eq!((code, &answer["outcome"]), (Some(1), &"refused".into()));
    let told = elsewhere.run(&["status"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    for text in [answer["reasons"].to_string(), told.stdout, relay.stderr()] {
        assert!(text.contains("time_out") && text.contains("did you mean"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let ready = elsewhere.run(&["health", "--address", &address]).await;
    assert_eq!(ready.code, Some(0), "it works on, so it is ready: {ready:?}");
    assert!(metrics(&address).await.contains("outboxd_reload_refused 1"));
    insert(&database, 1, 5).await;
    receiver.wait_for(5).await;

    binary.rewrite(&config("concurrency = 3\n"));
    relay.hang_up();
    relay.wait_for_output("configuration reloaded").await;
    eventually("the status is well again", || async { (elsewhere.run(&["status"]).await.code == Some(0)).then_some(()) }).await;
    assert!(metrics(&address).await.contains("outboxd_reload_refused 0"));
    insert(&database, 6, 10).await;
    receiver.wait_for(10).await;
}

#[tokio::test]
async fn a_handler_that_is_added_gets_its_events_and_one_that_is_removed_stops() {
    let (database, first, second) = (migrated().await, Receiver::start().await, Receiver::start().await);
    let binary = Binary::relay(database.url(), &webhook("first", &first, ""));
    let _relay = started(&database, &binary, 1).await;
    insert(&database, 1, 10).await;
    first.wait_for(10).await;

    let both = [webhook("first", &first, ""), webhook("second", &second, "start = \"beginning\"")].concat();
    binary.rewrite(&Binary::relay_config(database.url(), &both));
    let (_, answer) = reload(&binary).await;
    assert_eq!(answer["added"], serde_json::json!(["second"]));
    second.wait_for(10).await;
    insert(&database, 11, 20).await;
    first.wait_for(20).await;
    second.wait_for(20).await;

    binary.rewrite(&Binary::relay_config(database.url(), &webhook("second", &second, "start = \"beginning\"")));
    let (_, answer) = reload(&binary).await;
    assert_eq!(answer["removed"], serde_json::json!(["first"]));
    eventually("its lease was given back", || async {
        (database.count("subscriptions where handler = 'first' and owner is null").await == 1).then_some(())
    })
    .await;
    insert(&database, 21, 30).await;
    second.wait_for(30).await;
    assert_eq!(first.received().len(), 20);
    // It stays in the database, so that it goes on where it was if it comes back.
    binary.rewrite(&Binary::relay_config(database.url(), &both));
    reload(&binary).await;
    first.wait_for(30).await;
    assert_eq!((first.received().len(), second.received().len()), (30, 30), "nothing twice");
}

#[tokio::test]
async fn settings_are_taken_up_or_named_and_what_cannot_be_is_refused() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let binary = Binary::relay(database.url(), &webhook("a", &receiver, ""));
    let _relay = started(&database, &binary, 1).await;
    let config = Binary::relay_config(database.url(), &webhook("a", &receiver, ""));

    binary.rewrite(
        &config.replace("lease = \"3s\"", "lease = \"4s\"\nname = \"other\"").replace("[http]", "max_connections = 33\n[http]"),
    );
    let (code, answer) = reload(&binary).await;
    assert_eq!((code, &answer["settings"]), (Some(0), &serde_json::json!(["relay.lease"])));
    assert_eq!(answer["needs_restart"], serde_json::json!(["database.max_connections", "relay.name"]));

    binary.rewrite(&Binary::relay_config(database.url(), &webhook("a", &receiver, "partitions = 2")));
    let (code, answer) = reload(&binary).await;
    assert_eq!((code, &answer["outcome"]), (Some(1), &"refused".into()));
    assert!(answer["reasons"][0].as_str().is_some_and(|text| text.contains("has 1 partitions in the database")), "{answer}");
    binary.rewrite(&Binary::relay_config(database.url(), ""));
    let (code, answer) = reload(&binary).await;
    assert_eq!(
        (code, answer["reasons"][0].as_str().is_some_and(|text| text.contains("no handler is configured"))),
        (Some(1), true)
    );
    insert(&database, 1, 5).await;
    receiver.wait_for(5).await;
}

#[tokio::test]
async fn a_wish_reaches_a_relay_that_only_polls() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let config = |more| {
        Binary::relay_config(database.url(), &webhook("a", &receiver, more)).replace("[relay]", "[relay]\nwake_up = \"poll\"")
    };
    let binary = Binary::with_config(&config(""));
    let _relay = started(&database, &binary, 1).await;

    binary.rewrite(&config("concurrency = 2"));
    let (code, answer) = reload(&binary).await;

    assert_eq!((code, &answer["changed"]), (Some(0), &serde_json::json!(["a"])));
}

#[tokio::test]
async fn every_instance_answers_for_its_own_file() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let one = Binary::relay(database.url(), &webhook("a", &receiver, ""));
    let other = Binary::relay(database.url(), &webhook("a", &receiver, ""));
    let (_one, _other) = (started(&database, &one, 1).await, other.spawn(&["run"]));
    eventually("both say that they live", || async { (database.count("instances").await == 2).then_some(()) }).await;

    other.rewrite("this is no TOML");
    let finished = one.run(&["reload", "--json"]).await;

    let document: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let mut outcomes: Vec<&str> =
        document["relays"].as_array().into_iter().flatten().filter_map(|relay| relay["outcome"].as_str()).collect();
    outcomes.sort_unstable();
    assert_eq!((finished.code, outcomes), (Some(1), vec!["refused", "unchanged"]));
    let nobody = Binary::with_config("").env("OUTBOXD_DATABASE_URL", migrated().await.url()).run(&["reload"]).await;
    assert!(nobody.code == Some(64) || nobody.code == Some(75), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing_and_deliver_nothing_twice() {
    let (database, recorder, untouched) = (migrated().await, Recorder::new(), Recorder::new());
    let other = untouched.handler();
    let builder = |concurrency: usize| -> RelayBuilder {
        // The same recorder by another Arc every time: other code.
        relay(&database).configured_handler("changing", recorder.handler(), |config| config.concurrency = concurrency).handler(
            "untouched",
            &[],
            Arc::clone(&other),
        )
    };
    let relay = builder(1).start().expect("the relay starts");
    let url = database.url().to_owned();
    let is_enough = Arc::new(AtomicBool::new(false));
    let enough = Arc::clone(&is_enough);
    let writer = tokio::spawn(async move {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.expect("the server takes connections");
        let mut count = 0_i64;
        while !enough.load(Ordering::SeqCst) {
            count += 1;
            sqlx::query("insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('t', 'order', $1, json_build_object('n', $2::bigint))")
                .bind((count % 5).to_string())
                .bind(count)
                .execute(&mut connection)
                .await
                .expect("inserted");
        }
        count
    });
    untouched.wait_for(1).await;
    let epoch = epoch_of(&database, "untouched").await;
    for round in 1..=8 {
        let seen = recorder.delivered().len();
        let report = relay.reload(builder(round * 2)).await.expect("the names are unique").expect("the relay lives");
        assert_eq!((report.outcome, report.changed), (ReloadOutcome::Applied, vec!["changing".to_owned()]));
        recorder.wait_for(seen + 20).await;
    }
    is_enough.store(true, Ordering::SeqCst);
    let count = writer.await.expect("the writer works");
    recorder.wait_for(count as usize).await;
    untouched.wait_for(count as usize).await;
    relay.stop().await.expect("the relay stops");

    for recorder in [&recorder, &untouched] {
        assert_eq!(recorder.calls().len(), count as usize, "each once");
        for key in 0..5 {
            let want: Vec<i64> = (1..=count).filter(|number| number % 5 == key).collect();
            assert_eq!(recorder.numbers_of(&key.to_string()), want, "key {key}");
        }
    }
    assert_eq!(epoch_of(&database, "untouched").await, epoch, "its loop went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_when_its_handler_changes_finishes_once() {
    let (database, gate) = (migrated().await, Arc::new(Semaphore::new(0)));
    let waiting = Arc::clone(&gate);
    let slow = Recorder::answering_later(move |_, _| {
        let gate = Arc::clone(&waiting);
        async move {
            gate.acquire().await.expect("the gate stays").forget();
            Verdict::delivered()
        }
    });
    let quick = Recorder::new();
    let relay = relay(&database).handler("billing", &[], slow.handler()).start().expect("the relay starts");
    database.insert_events((1..=3).map(|n| numbered(n, n))).await;
    slow.wait_for_calls(3).await;

    let next = crate::support::relay(&database).handler("billing", &[], quick.handler());
    let report = relay.reload(next).await.expect("the names are unique").expect("the relay lives");
    assert_eq!(report.outcome, ReloadOutcome::Applied);
    database.insert_event(numbered(4, 4)).await;
    gate.add_permits(3);
    quick.wait_for(1).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!((slow.calls().len(), number(&quick.calls()[0]), quick.calls().len()), (3, 4, 1));
    assert_eq!(database.count("deliveries where state = 'delivered'").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_released_to_the_changed_handler() {
    let (database, quick) = (migrated().await, Recorder::new());
    let stuck = Recorder::answering_later(|_, _| std::future::pending::<Verdict>());
    let builder = |recorder: &Recorder| {
        relay(&database).configure(|config| config.relay.drain_timeout = Duration::from_millis(100)).configured_handler(
            "billing",
            recorder.handler(),
            |config| config.timeout = Duration::from_secs(3600),
        )
    };
    let relay = builder(&stuck).start().expect("the relay starts");
    database.insert_event(numbered(1, 1)).await;
    stuck.wait_for_calls(1).await;

    relay.reload(builder(&quick)).await.expect("the names are unique").expect("the relay lives");
    quick.wait_for(1).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(quick.calls()[0].attempt, 1, "released uncounted");
}

#[tokio::test]
async fn a_retry_goes_to_the_new_address() {
    let (database, new) = (migrated().await, Receiver::start().await);
    let old = Receiver::answering(|_| Answer::status(500)).await;
    let retry = "retry = { base = \"2s\", max_delay = \"2s\", jitter = 0.0 }";
    let binary = Binary::relay(database.url(), &webhook("a", &old, retry));
    let _relay = started(&database, &binary, 1).await;
    let id = database.insert_event(numbered(1, 1)).await;
    eventually("its failure is recorded", || async {
        (database.count("deliveries where state = 'retrying'").await == 1).then_some(())
    })
    .await;

    binary.rewrite(&Binary::relay_config(database.url(), &webhook("a", &new, retry)));
    assert_eq!(reload(&binary).await.0, Some(0));

    let received = new.wait_for(1).await.remove(0);
    assert_eq!(received.id, id.to_string());
    assert!(received.request.header("webhook-attempt").is_some_and(|attempt| attempt != "1"), "the count goes on");
}

// Seen: four reloads of ten handlers were forty warnings "lease lost", and the alert for lost leases; a removed handler had no name there.
#[tokio::test]
async fn a_reload_loses_no_lease_and_the_log_names_a_handler_that_is_removed() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let address = free_address().await;
    let config = |concurrency: usize, names: std::ops::Range<usize>| {
        let handlers: String =
            names.map(|number| webhook(&format!("h{number}"), &receiver, &format!("concurrency = {concurrency}"))).collect();
        Binary::relay_config(database.url(), &handlers).replace("listen = \"\"", &format!("listen = \"{address}\""))
    };
    let binary = Binary::with_config(&config(2, 0..10));
    let relay = started(&database, &binary, 10).await;
    for round in 3..7 {
        binary.rewrite(&config(round, 0..10));
        assert_eq!(reload(&binary).await.0, Some(0));
        eventually("the relay owns all again", || async {
            (metrics(&address).await.contains("outboxd_leases_held 10")
                && database.count("subscriptions where lease_until > clock_timestamp()").await == 10)
                .then_some(())
        })
        .await;
    }
    binary.rewrite(&config(6, 0..3));
    assert_eq!(reload(&binary).await.0, Some(0));
    eventually("seven are not served any more", || async {
        metrics(&address).await.contains("outboxd_leases_held 3").then_some(())
    })
    .await;
    // Two rounds later, so that a lease which was taken for lost would have been told.
    let beats = || async { database.count("instances where seen_at > clock_timestamp() - interval '100 ms'").await };
    for _ in 0..2 {
        eventually("a round of leases", || async { (beats().await == 1).then_some(()) }).await;
        eventually("it is over", || async { (beats().await == 0).then_some(()) }).await;
    }

    let log = relay.stderr();
    assert!(!log.contains("lease lost") && !log.contains("handler=\"\""), "{log}");
    assert!(metrics(&address).await.contains("outboxd_leases_lost_total 0"), "{log}");
    assert!(log.contains("handler is not served any more"), "{log}");
}
