//! Against a real broker: what others see of an event, what happens without a topic, and connections that break in the middle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;
use outboxd::domain::{Notification, Outcome};
use serde_json::json;
use tokio::sync::OnceCell;

use super::{handler, id, text, told};
use crate::conformance::numbered;
use crate::support::{Binary, Kafka, NewRow, Proxy, TestDatabase, eventually, free_port};

static SHARED: OnceCell<Option<Kafka>> = OnceCell::const_new();

/// The broker of the tests that leave it in peace. Each has a topic of its own.
async fn shared() -> Option<&'static Kafka> {
    SHARED.get_or_init(Kafka::start).await.as_ref()
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_the_event_its_key_and_what_it_is() {
    let Some(kafka) = shared().await else { return };
    kafka.create_topic("seen").await;
    let settings = |more: &str| format!("{}\ntopic = \"seen\"\n{more}", kafka.brokers());
    // The partitions are those of org.apache.kafka.common.utils.UtilsTest for the same keys.
    for (key, partition) in [("21", 0), ("a-little-bit-long-string", 2)] {
        let event = Notification { key: Some(key.to_owned()), ..numbered("a", 1) };
        assert!(handler(&settings("compression = \"lz4\"")).deliver(&event).await.is_delivered());
        let records = kafka.read("seen").await;
        let record = records.iter().find(|record| id(record) == event.id.to_string()).expect("it is there");
        assert_eq!((record["partition"].as_i64(), text(record, "key"), text(record, "value")), (Some(partition), key, "{\"n\":1}"));
        assert_eq!(record["headers"]["content-type"], "application/json");
        assert_eq!(record["headers"]["event-type"], "order.placed");
    }
    let event = Notification { key: None, ..numbered("b", 2) };
    let binary = "format = \"cloudevents-binary\"\nsource = \"shop\"\nheaders = { tenant = \"{aggregate_id}\" }";
    assert!(handler(&settings(binary)).deliver(&event).await.is_delivered());
    let records = kafka.read("seen").await;
    let record = records.iter().find(|record| record["headers"]["ce_id"] == event.id.to_string()).expect("it is there");
    assert_eq!(text(record, "key"), event.id.to_string(), "without a key the id spreads events evenly");
    assert_eq!((&record["headers"]["ce_source"], &record["headers"]["tenant"]), (&json!("shop"), &json!("b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_topic_the_handler_holds_everything_until_somebody_makes_it() {
    let Some(kafka) = shared().await else { return };
    let handler = handler(&format!("{}\ntopic = \"late\"", kafka.brokers()));
    let event = numbered("a", 1);
    let verdict = handler.deliver(&event).await;
    assert_eq!(told(&verdict), ("handler_fault", "not_found", false), "{verdict:?}");
    assert_eq!(handler.probe().await, Err("there is no topic \"late\"; outboxd creates none".to_owned()));
    kafka.create_topic("late").await;
    let probed = handler.probe().await;
    assert_eq!(probed, Ok(format!("connected to {}; the topic \"late\" has 3 partitions, each on one broker", kafka.advertised)));
    let verdict = handler.deliver(&event).await;
    assert!(verdict.is_delivered(), "{verdict:?}");
    assert_eq!(kafka.read("late").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_its_topic_loses_nothing_and_says_why() {
    let Some(kafka) = shared().await else { return };
    let database = TestDatabase::create().await;
    let entry = format!(
        "[[handlers]]\nname = \"far\"\nkind = \"kafka\"\n{}\ntopic = \"held\"\n\
         retry = {{ base = \"50ms\", factor = 1.0, max_delay = \"50ms\", max_attempts = 2 }}\n\
         circuit = {{ first_probe = \"200ms\", max_probe = \"500ms\" }}\n",
        kafka.brokers()
    );
    let relay = Binary::relay(database.url(), &entry).spawn(&["run"]);
    database.insert_events((0..50).map(|n| NewRow::new("order.placed").of("order", n % 7).payload(json!({ "n": n })))).await;
    eventually("the circuit opens and says why", || async {
        (database.count("subscriptions where circuit = 'open' and circuit_reason = 'not_found'").await == 1).then_some(())
    })
    .await;
    kafka.create_topic("held").await;
    eventually("everything is delivered", || async {
        (database.count("deliveries where state = 'delivered'").await == 50).then_some(())
    })
    .await;
    relay.terminate();
    let finished = relay.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(!finished.stderr.contains("thrd:"), "librdkafka prints nothing itself: {}", finished.stderr);
    assert_eq!(kafka.read("held").await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_while_events_are_on_their_way_lose_none() {
    let port = free_port();
    let proxy = Proxy::to(([127, 0, 0, 1], port).into()).await;
    let Some(kafka) = Kafka::start_at(port, proxy.address()).await else { return };
    kafka.create_topic("broken").await;
    let handler = handler(&format!("{}\ntopic = \"broken\"\nconfirm_timeout = \"1s\"\nlinger = \"1ms\"", kafka.brokers()));
    let (delivered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let keys = (0..8_u64).map(|key| {
        let (handler, delivered, failed) = (Arc::clone(&handler), &delivered, &failed);
        async move {
            let events: Vec<_> = (0..40).map(|number| numbered(&key.to_string(), number)).collect();
            for event in &events {
                // As the relay does: the same event until it is through, then the next one of its key.
                eventually("it is delivered", || async {
                    let verdict = handler.deliver(event).await;
                    let count = if verdict.is_delivered() { delivered } else { failed };
                    count.fetch_add(1, SeqCst);
                    assert!(matches!(verdict.outcome, Outcome::Delivered | Outcome::Retry), "{verdict:?}");
                    verdict.is_delivered().then_some(())
                })
                .await;
            }
            events
        }
    });
    let breaking = async {
        for round in 1..=2 {
            eventually("events are on their way", || async { (delivered.load(SeqCst) >= 100 * round).then_some(()) }).await;
            let before = failed.load(SeqCst);
            proxy.cut();
            eventually("deliveries fail", || async { (failed.load(SeqCst) > before).then_some(()) }).await;
            proxy.heal();
        }
    };
    let (sent, ()) = tokio::join!(join_all(keys), breaking);
    let records = kafka.read("broken").await;
    for events in sent {
        let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
        let arrived: Vec<&str> = records.iter().map(id).filter(|id| ids.iter().any(|own| own == id)).collect();
        let mut seen = BTreeSet::new();
        let first: Vec<&str> = arrived.into_iter().filter(|id| seen.insert(*id)).collect();
        assert_eq!(first, ids, "every event of the key, in order; a copy has the id of the first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_gone_silent_leaves_doubt_and_is_replaced() {
    let port = free_port();
    let proxy = Proxy::to(([127, 0, 0, 1], port).into()).await;
    let Some(kafka) = Kafka::start_at(port, proxy.address()).await else { return };
    kafka.create_topic("silent").await;
    let handler = handler(&format!("{}\ntopic = \"silent\"\nconfirm_timeout = \"1s\"", kafka.brokers()));
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    proxy.forget();
    let event = numbered("a", 1);
    let verdict = handler.deliver(&event).await;
    assert_eq!(told(&verdict), ("retry", "timeout", true), "{verdict:?}");
    let verdict = handler.deliver(&event).await;
    assert!(verdict.is_delivered(), "{verdict:?}");
    assert_eq!(kafka.read("silent").await.iter().filter(|record| id(record) == event.id.to_string()).count(), 1);
}
