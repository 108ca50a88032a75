//! A relay inside a program: closures as handlers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outboxd::domain::Backoff;
use outboxd::{Notification, RelayBuilder, Verdict, handler_fn};
use serde_json::json;

use crate::support::{NewRow, TestDatabase, eventually};

type Seen = Arc<Mutex<Vec<Notification>>>;

fn remember(seen: &Seen, notification: Notification) {
    seen.lock().expect("nobody panics while appending").push(notification);
}

fn count(seen: &Seen) -> usize {
    seen.lock().expect("nobody panics while appending").len()
}

/// A database whose outbox the relay recognises as its own.
async fn migrated() -> TestDatabase {
    let database = TestDatabase::empty().await;
    outboxd::store::migrate(database.pool(), "outbox", None).await.expect("the outbox can be made");
    database
}

fn row(order: i64, step: i64) -> NewRow {
    NewRow::new("order.changed").of("order", order).payload(json!({ "step": step }))
}

#[tokio::test]
async fn a_relay_can_run_until_its_handlers_are_done() {
    let (database, seen) = (migrated().await, Seen::default());
    let builder = |database: &TestDatabase, seen: &Seen| {
        let received = Arc::clone(seen);
        RelayBuilder::new(database.url()).configured_handler(
            "changes",
            handler_fn(move |notification| {
                let received = Arc::clone(&received);
                async move {
                    let is_first = notification.attempt == 1;
                    remember(&received, notification);
                    if is_first { Verdict::retry(outboxd::Reason::ServerError, "not yet") } else { Verdict::delivered() }
                }
            }),
            |config| {
                config.retry.backoff =
                    Backoff::exponential(Duration::from_millis(20), 1.0, Duration::from_secs(1), 0.0).expect("valid");
                config.start = outboxd::config::Start::Beginning;
            },
        )
    };
    database.insert_events((1..=10).map(|order| row(order, 1))).await;
    builder(&database, &seen).run_until_idle(Duration::from_secs(60)).await.expect("it becomes idle");
    assert_eq!(count(&seen), 20);
    builder(&database, &seen).run_until_idle(Duration::from_secs(60)).await.expect("it is idle at once");
    assert_eq!(count(&seen), 20);
}

/// As the tutorial has it.
#[tokio::test]
async fn a_test_makes_the_outbox_records_and_runs_a_relay_until_idle() {
    let (database, seen) = (TestDatabase::empty().await, Seen::default());
    let received = Arc::clone(&seen);
    let take = handler_fn(move |notification| {
        remember(&received, notification);
        async { Verdict::delivered() }
    });
    let relay = RelayBuilder::new(database.url()).handler("changes", &["order.changed"], take);
    assert!(!relay.migrate().await.expect("the outbox can be made").applied.is_empty());
    assert!(relay.migrate().await.expect("it is there").applied.is_empty());
    database.insert_event(row(1, 1)).await;
    relay.run_until_idle(Duration::from_secs(60)).await.expect("it becomes idle");
    assert_eq!(count(&seen), 1);
}

#[tokio::test]
async fn a_closure_gets_its_event_types_in_order_per_key() {
    let (database, seen) = (migrated().await, Seen::default());
    let received = Arc::clone(&seen);
    let relay = RelayBuilder::new(database.url())
        .handler(
            "changes",
            &["order.*"],
            handler_fn(move |notification| {
                let received = Arc::clone(&received);
                async move {
                    // Later ones are quicker: without order they would overtake.
                    tokio::time::sleep(Duration::from_millis(if notification.payload.contains("1") { 20 } else { 1 })).await;
                    remember(&received, notification);
                    Verdict::delivered()
                }
            }),
        )
        .start()
        .expect("the names are unique");
    for step in 1..=10 {
        database.insert_events((1..=10).map(|order| row(order, step)).chain([NewRow::new("invoice.paid")])).await;
    }
    eventually("all of them came", || async { (count(&seen) == 100).then_some(()) }).await;
    relay.stop().await.expect("the relay ran well");

    let mut steps: HashMap<String, Vec<i64>> = HashMap::new();
    for notification in seen.lock().expect("nobody panics while appending").iter() {
        assert_eq!(notification.event_type, "order.changed");
        let payload: serde_json::Value = serde_json::from_str(&notification.payload).expect("the payload is JSON");
        let order = notification.aggregate_id.clone().expect("every order has an id");
        steps.entry(order).or_default().push(payload["step"].as_i64().expect("every payload has a step"));
    }
    assert_eq!(steps.len(), 10);
    assert!(steps.values().all(|steps| steps.iter().copied().eq(1..=10)), "{steps:?}");
}

#[tokio::test]
async fn a_panicking_closure_becomes_a_retry() {
    let (database, calls) = (migrated().await, Arc::new(AtomicU32::new(0)));
    let called = Arc::clone(&calls);
    let relay = RelayBuilder::new(database.url())
        .configured_handler(
            "clumsy",
            handler_fn(move |notification| {
                called.fetch_add(1, Ordering::SeqCst);
                async move {
                    assert!(notification.attempt > 1, "dropped it");
                    Verdict::delivered()
                }
            }),
            |config| {
                config.retry.backoff = Backoff::schedule(vec![Duration::from_millis(50)], 0.0).expect("one delay is a schedule");
            },
        )
        .start()
        .expect("the names are unique");
    database.insert_event(row(1, 1)).await;
    eventually("the second attempt went through", || async {
        (database.count("event_states where state = 'delivered' and attempts = 2").await == 1).then_some(())
    })
    .await;
    relay.stop().await.expect("the relay ran well");

    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(database.count("attempts where reason = 'panicked' and detail like '%dropped it%'").await, 1);
}

#[tokio::test]
async fn stop_waits_for_what_is_in_flight_and_records_it() {
    let (database, begun) = (migrated().await, Arc::new(AtomicU32::new(0)));
    let began = Arc::clone(&begun);
    let relay = RelayBuilder::new(database.url())
        .handler(
            "slow",
            &[],
            handler_fn(move |_| {
                began.fetch_add(1, Ordering::SeqCst);
                async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Verdict::delivered()
                }
            }),
        )
        .start()
        .expect("the names are unique");
    database.insert_events((1..=4).map(|order| row(order, 1))).await;
    eventually("all four are in flight", || async { (begun.load(Ordering::SeqCst) == 4).then_some(()) }).await;
    assert_eq!(database.count("event_states where state = 'delivered'").await, 0);

    relay.stop().await.expect("the relay ran well");

    assert_eq!(database.count("event_states where state = 'delivered'").await, 4);
    assert_eq!(begun.load(Ordering::SeqCst), 4, "none began twice");
}

#[tokio::test]
async fn two_handlers_of_one_name_are_refused() {
    let handler = || handler_fn(|_| async { Verdict::delivered() });
    let started = RelayBuilder::new("postgres://localhost").handler("a", &[], handler()).handler("a", &[], handler()).start();
    assert!(started.is_err_and(|mistake| mistake.path == "handlers.a"));
}
