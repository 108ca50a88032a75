//! A handler whose address depends on the event: one destination in trouble concerns its own events only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use outboxd::config::HandlerConfig;
use outboxd::domain::OnBadDestination;
use outboxd::handlers::Handler;
use outboxd::{Notification, Reason, Verdict};
use serde_json::json;

use super::{strict, wait_for_rows};
use crate::brokers::rabbitmq::server as rabbit;
use crate::support::{Binary, NewRow, TestDatabase, eventually, nats_server, relay};

/// Sends to the destination that the type of the event names; some of them are in trouble until it is mended.
struct Switchboard {
    is_mended: Arc<AtomicBool>,
    verdict: fn() -> Verdict,
}

impl Handler for Switchboard {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        let is_bad = notification.event_type.starts_with("bad") && !self.is_mended.load(Ordering::SeqCst);
        Box::pin(std::future::ready(if is_bad { (self.verdict)() } else { Verdict::delivered() }))
    }

    fn destination(&self, notification: &Notification) -> Option<String> {
        Some(format!("to.{}", notification.event_type))
    }
}

fn unroutable() -> Verdict {
    Verdict::handler_fault(Reason::Unroutable, "no stream takes it").of_destination()
}

fn full() -> Verdict {
    Verdict::back_pressure(Reason::Nacked, None, "the queue is full").of_destination()
}

fn switchboard(verdict: fn() -> Verdict) -> (Arc<dyn Handler>, Arc<AtomicBool>) {
    let is_mended = Arc::new(AtomicBool::new(false));
    (Arc::new(Switchboard { is_mended: Arc::clone(&is_mended), verdict }), is_mended)
}

fn event(kind: &str, n: i64) -> NewRow {
    NewRow::new(kind).of("order", n).payload(json!({ "n": n }))
}

/// Ten events for bad destinations at the head of a hundred good ones.
async fn insert(database: &TestDatabase, bad: i64) {
    database.insert_events((0..10).map(|n| event(&format!("bad.{}", n % bad), n))).await;
    database.insert_events((10..110).map(|n| event("good", n))).await;
}

fn patient(config: &mut HandlerConfig) {
    strict(config);
    config.retry.max_attempts = 1_000;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_destination_in_trouble_wait_unspent_and_the_others_flow() {
    for (verdict, bad) in [(unroutable as fn() -> Verdict, 1), (unroutable, 10), (full, 1), (full, 3)] {
        let (database, (handler, is_mended)) = (TestDatabase::create().await, switchboard(verdict));
        let relay = relay(&database).configured_handler("far", handler, patient).start().expect("the relay starts");
        insert(&database, bad).await;
        wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 100).await;
        wait_for_rows(&database, "deliveries where state = 'retrying' and attempts = 0 and destination like 'to.bad%'", 10).await;
        wait_for_rows(&database, "destinations where name like 'to.bad%'", bad).await;
        assert_eq!(database.count("subscriptions where circuit <> 'closed'").await, 0);
        is_mended.store(true, Ordering::SeqCst);
        wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 110).await;
        wait_for_rows(&database, "destinations", 0).await;
        relay.stop().await.expect("the relay stops");
        assert_eq!(database.count("attempts").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_destination_is_given_up_after_its_probes_and_a_full_one_is_not() {
    for (verdict, on_bad, dead) in [
        (unroutable as fn() -> Verdict, OnBadDestination::ByReason, true),
        (unroutable, OnBadDestination::Hold, false),
        (full, OnBadDestination::ByReason, false),
        (full, OnBadDestination::DeadLetter, true),
    ] {
        let (database, (handler, _)) = (TestDatabase::create().await, switchboard(verdict));
        let relay = relay(&database)
            .configured_handler("far", handler, |config| {
                strict(config);
                config.on_bad_destination = on_bad;
            })
            .start()
            .expect("the relay starts");
        insert(&database, 1).await;
        wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 100).await;
        if dead {
            wait_for_rows(&database, "deliveries where state = 'dead' and reason in ('unroutable', 'nacked')", 10).await;
        } else {
            wait_for_rows(&database, "destinations where probes >= 4", 1).await;
            assert_eq!(database.count("deliveries where state = 'retrying' and attempts = 0").await, 10);
        }
        relay.stop().await.expect("the relay stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_knows_the_destination_in_trouble_and_a_mended_one_is_found() {
    let (database, (handler, is_mended)) = (TestDatabase::create().await, switchboard(unroutable));
    let start = || relay(&database).configured_handler("far", Arc::clone(&handler), patient).start().expect("the relay starts");
    let first = start();
    insert(&database, 1).await;
    wait_for_rows(&database, "destinations where probes >= 2", 1).await;
    first.stop().await.expect("the relay stops");
    let second = start();
    wait_for_rows(&database, "destinations where probes >= 4", 1).await;
    is_mended.store(true, Ordering::SeqCst);
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 110).await;
    second.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_destination_takes_anything_it_is_the_trouble_of_the_handler() {
    let (database, (handler, is_mended)) = (TestDatabase::create().await, switchboard(unroutable));
    let relay = relay(&database)
        .configured_handler("far", handler, |config| {
            patient(config);
            config.circuit.first_probe = std::time::Duration::from_millis(50);
            config.circuit.max_probe = std::time::Duration::from_millis(50);
        })
        .start()
        .expect("the relay starts");
    database.insert_events((0..60).map(|n| event(&format!("bad.{n}"), n))).await;
    wait_for_rows(&database, "subscriptions where circuit <> 'closed' and circuit_reason = 'unroutable'", 1).await;
    is_mended.store(true, Ordering::SeqCst);
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 60).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(database.count("attempts").await, 0);
}

/// Seen: with ten such events, 0 of 120 good ones had arrived after 150 s.
#[tokio::test(flavor = "multi_thread")]
async fn nats_subjects_that_no_stream_takes_do_not_delay_those_of_a_stream() {
    let Some(server) = nats_server().await else { return };
    let (database, stream) = (TestDatabase::create().await, server.stream(&[]).await);
    let entry = format!(
        "[[handlers]]\nname = \"far\"\nkind = \"nats\"\nservers = [\"{}\"]\nsubject = \"{{aggregate_type}}.{{type}}\"\n\
         start = \"beginning\"\nretry = {{ base = \"50ms\", max_delay = \"100ms\", max_attempts = 3 }}\n",
        server.url()
    );
    let to = |subject: String, n: i64| NewRow::new("placed").of(&subject, n).payload(json!({ "n": n }));
    database.insert_events((0..10).map(|n| to(format!("{stream}-nobody-{n}"), n))).await;
    database.insert_events((10..110).map(|n| to(stream.clone(), n))).await;
    let running = Binary::relay(database.url(), &entry).spawn(&["run"]);
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 100).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'unroutable'", 10).await;
    running.terminate();
    let log = running.finish().await.stderr;
    assert!(!log.contains("circuit open"), "{log}");
}

/// Seen: 0 of 80 for the other queues in 90 s, and a status that said ok.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_rabbitmq_holds_its_own_routing_key_only() {
    let Some(server) = rabbit::shared().await else { return };
    let database = TestDatabase::create().await;
    let (exchange, small, large) = (rabbit::unique("exchange"), rabbit::unique("queue"), rabbit::unique("queue"));
    let limits = json!({ "x-max-length": 1, "x-overflow": "reject-publish" });
    server
        .steps(json!([
            ["exchange", exchange, "topic"],
            ["queue", small, limits],
            ["bind", small, exchange, "small"],
            ["queue", large, {}],
            ["bind", large, exchange, "large"]
        ]))
        .await;
    let entry = format!(
        "[[handlers]]\nname = \"far\"\nkind = \"rabbitmq\"\nurl = \"{}\"\nexchange = \"{exchange}\"\nrouting_key = \"{{type}}\"\n\
         start = \"beginning\"\n[handlers.circuit]\nfirst_probe = \"200ms\"\nmax_probe = \"1s\"\n",
        server.url()
    );
    database.insert_events((0..5).map(|n| event("small", n))).await;
    database.insert_events((5..85).map(|n| event("large", n))).await;
    let running = Binary::relay(database.url(), &entry).spawn(&["run"]);
    wait_for_rows(&database, "deliveries d join events e using (seq) where e.type = 'large' and d.state = 'delivered'", 80).await;
    wait_for_rows(&database, "destinations where name = 'small' and reason = 'nacked'", 1).await;
    let status = Binary::relay(database.url(), &entry).run(&["status"]).await;
    assert!(status.stdout.contains("1 destination in trouble (small: nacked)"), "{}", status.stdout);
    // Somebody reads the queue: all of it arrives, and nothing was spent.
    eventually("the small ones arrive", || async {
        server.steps(json!([["purge", small]])).await;
        (database.count("deliveries where state = 'delivered' and attempts = 1").await == 85).then_some(())
    })
    .await;
    running.terminate();
    running.finish().await;
}
