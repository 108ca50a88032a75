//! Keys that are hot, large or slow, and handlers that wait: what they hold is bounded, and costs others nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use outboxd::config::{Config, HandlerConfig};
use outboxd::domain::{Backoff, EventFilter, Record};
use outboxd::{EmbeddedRelay, Reason, Verdict};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{NewRow, Recorder, TestDatabase, eventually, number, relay};

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

/// Answers for these numbers only when the gate is open.
fn gated(gate: &Arc<Semaphore>, is_gated: impl Fn(i64) -> bool + Send + Sync + 'static) -> Recorder {
    let gate = Arc::clone(gate);
    Recorder::answering_later(move |notification, _| {
        let waits = is_gated(number(notification)).then(|| Arc::clone(&gate));
        async move {
            if let Some(gate) = waits {
                drop(gate.acquire().await);
            }
            Verdict::delivered()
        }
    })
}

fn patient(config: &mut HandlerConfig) {
    config.timeout = Duration::from_secs(600);
}

fn little_memory(config: &mut Config) {
    config.relay.memory = 6 << 20;
}

/// Seen: what a lane may hold was counted in events. With large ones a single key had half of the memory, where reading stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_key_with_large_payloads_holds_up_no_other_key() {
    for slow_keys in [1, 3, 15] {
        let database = TestDatabase::create().await;
        let gate = Arc::new(Semaphore::new(0));
        let recorder = gated(&gate, |number| number < 1_000);
        let large = "x".repeat(32 << 10);
        let hot = (0..300).map(|n| NewRow::new("t").of("slow", n % slow_keys).payload(json!({ "n": n, "large": large })));
        database.insert_events(hot).await;
        let relay =
            relay(&database).configure(little_memory).configured_handler("h", recorder.handler(), patient).start().expect("valid");
        for n in 1_000..1_050 {
            database.insert_event(numbered(n, n)).await;
        }
        recorder.wait_for(50).await;
        assert!(recorder.numbers().iter().all(|n| *n >= 1_000));

        gate.add_permits(1_000);
        recorder.wait_for(350).await;
        relay.stop().await.expect("the relay stops");
        assert_eq!(recorder.calls().len(), 350, "each once");
        for key in 0..slow_keys {
            assert!(recorder.numbers_of(&key.to_string()).is_sorted(), "key {key} of {slow_keys}");
        }
    }
}

/// Seen: one request that hung while 3,000 events a second went by made each flush write a megabyte.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_behind_an_event_that_hangs_is_told_in_little_and_survives_a_restart() {
    const COUNT: i64 = 5_000;
    let (database, gate) = (TestDatabase::create().await, Arc::new(Semaphore::new(0)));
    let recorder = gated(&gate, |number| number == 0);
    let start = |recorder: &Recorder| -> EmbeddedRelay {
        let failures = |config: &mut HandlerConfig| {
            patient(config);
            config.record = Record::Failures;
            config.filter = EventFilter { types: vec!["order.placed".to_owned()], ..EventFilter::default() };
        };
        let quick_stop = |config: &mut Config| config.relay.drain_timeout = Duration::from_millis(50);
        relay(&database).configure(quick_stop).configured_handler("h", recorder.handler(), failures).start().expect("valid")
    };
    let running = start(&recorder);
    for chunk in 0..10 {
        let numbers = chunk * COUNT / 10..(chunk + 1) * COUNT / 10;
        // Between two that it wants there is always one that it does not want.
        database.insert_events(numbers.flat_map(|n| [numbered(n, n), NewRow::new("other")])).await;
    }
    let expected = usize::try_from(COUNT - 1).expect("small");
    recorder.wait_for(expected).await;
    running.stop().await.expect("the relay stops");

    let size: i32 = sqlx::query_scalar("select coalesce(length(done::text), 0) from subscriptions")
        .fetch_one(database.pool())
        .await
        .expect("a size");
    assert!(size < 30_000, "{size} bytes");
    let rows = database.count("deliveries where state = 'delivered'").await;
    let told: i64 = sqlx::query_scalar(
        "select count(*) from events e join subscriptions s on e.seq <@ s.done
          where e.type = 'order.placed' and not exists (select from deliveries d where d.seq = e.seq)",
    )
    .fetch_one(database.pool())
    .await
    .expect("a count");
    assert_eq!(rows + told, COUNT - 1, "each is told, in one way");

    gate.add_permits(10);
    let running = start(&recorder);
    recorder.wait_for_ids(expected + 1).await;
    running.stop().await.expect("the relay stops");
    assert_eq!(recorder.calls().len(), expected + 2, "only the one that hung was called again");
    let distinct: BTreeSet<i64> = recorder.numbers().into_iter().collect();
    assert_eq!(distinct.len(), expected + 1);
}

/// Scans of an index since the server counts.
async fn scans(database: &TestDatabase, index: &str) -> i64 {
    database
        .count(&format!(
            "generate_series(1, (select idx_scan from pg_stat_user_indexes where indexrelname = '{index}')::integer) g"
        ))
        .await
}

/// Waits until an idle loop has stored its position a few times more, which it does every five seconds.
async fn let_time_pass(database: &TestDatabase) {
    for _ in 0..2 {
        let before: String =
            sqlx::query_scalar("select moved_at::text from subscriptions").fetch_one(database.pool()).await.expect("a time");
        eventually("the position is stored", || async {
            let now: String =
                sqlx::query_scalar("select moved_at::text from subscriptions").fetch_one(database.pool()).await.ok()?;
            (now != before).then_some(())
        })
        .await;
    }
}

/// Seen: a delivery that was due was read again, with its payload, every 20 ms for as long as it was in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_in_memory_is_not_read_again() {
    let (database, gate) = (TestDatabase::create().await, Arc::new(Semaphore::new(0)));
    let waiting = Arc::clone(&gate);
    let recorder = Recorder::answering_later(move |_, call| {
        let gate = Arc::clone(&waiting);
        async move {
            if call == 1 {
                return Verdict::retry(Reason::ServerError, "not yet");
            }
            drop(gate.acquire().await);
            Verdict::delivered()
        }
    });
    let two_at_once = |config: &mut HandlerConfig| {
        patient(config);
        config.concurrency = 2;
        config.retry.backoff = Backoff::exponential(Duration::from_millis(50), 1.0, Duration::from_millis(50), 0.0).expect("valid");
    };
    let relay = relay(&database).configured_handler("h", recorder.handler(), two_at_once).start().expect("valid");
    database.insert_events((0..12).map(|n| numbered(n, n))).await;
    recorder.wait_for_calls(14).await;
    let_time_pass(&database).await;
    let before = (scans(&database, "events_pkey").await, scans(&database, "deliveries_due").await);
    let_time_pass(&database).await;
    let after = (scans(&database, "events_pkey").await, scans(&database, "deliveries_due").await);
    assert!(after.0 - before.0 < 60 && after.1 - before.1 < 100, "{before:?} {after:?}");

    gate.add_permits(100);
    recorder.wait_for(12).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.calls().len(), 24);
}

/// Seen: a handler whose receiver had asked for an hour looked for retries fifty times a second meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_waits_because_it_was_asked_to_costs_nothing() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|notification, call| match (number(notification), call) {
        (1, 1) => Verdict::retry(Reason::ServerError, "not yet"),
        (1, _) => Verdict::delivered(),
        _ => Verdict::back_pressure(Reason::Throttled, Some(Duration::from_secs(3600)), "in an hour"),
    });
    let slow_retry = |config: &mut HandlerConfig| {
        config.retry.backoff = Backoff::exponential(Duration::from_secs(2), 1.0, Duration::from_secs(2), 0.0).expect("valid");
    };
    let relay = relay(&database).configured_handler("h", recorder.handler(), slow_retry).start().expect("valid");
    database.insert_events([numbered("a", 1), numbered("b", 2)]).await;
    recorder.wait_for_calls(2).await;
    eventually("the first is due again", || async {
        (database.count("deliveries where state = 'retrying' and due_at < clock_timestamp()").await == 1).then_some(())
    })
    .await;
    let_time_pass(&database).await;
    let before = scans(&database, "deliveries_due").await;
    let_time_pass(&database).await;
    let after = scans(&database, "deliveries_due").await;
    assert!(after - before < 60, "{before} {after}");
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.calls().len(), 2);
}

/// A share of a table of millions would be dead before the first vacuum came.
#[tokio::test]
async fn the_large_tables_are_vacuumed_as_their_use_asks_for() {
    let database = TestDatabase::create().await;
    for (table, setting) in [
        ("events", "autovacuum_vacuum_scale_factor=0.02"),
        ("events", "autovacuum_vacuum_insert_scale_factor=0.1"),
        ("deliveries", "autovacuum_vacuum_scale_factor=0.005"),
        ("deliveries", "autovacuum_analyze_scale_factor=0.02"),
    ] {
        let set = format!("pg_class where oid = 'outbox.{table}'::regclass and '{setting}' = any (reloptions)");
        assert_eq!(database.count(&set).await, 1, "{table}: {setting}");
    }
}
