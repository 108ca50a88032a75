//! A broker short of memory: it blocks whoever publishes, without a word to them unless they ask for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use outboxd::domain::{Outcome, Reason};
use outboxd::relay::attempt;
use serde_json::json;

use super::server::spare;
use super::{Place, handler, meaning};
use crate::conformance::numbered;
use crate::support::{Binary, NewRow, TestDatabase, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_connection_asks_for_less_at_once_and_everything_arrives_once() {
    let Some(server) = spare().await else { return };
    let place = Place::make(&server, "#", json!({})).await;
    // Longer than an attempt may take here: it is not this that tells.
    let more = "timeout = \"30s\"\nconfirm_timeout = \"29s\"";
    let handler = handler(&(place.settings(&server.url()) + more));
    assert!(attempt(&*handler, &numbered("a", 0), TIMEOUT).await.is_delivered());

    server.control(&["set_vm_memory_high_watermark", "0.0001"]).await;
    let events: Vec<_> = (1..=20).map(|number| numbered(&number.to_string(), number)).collect();
    for round in 0..3 {
        let tried = events.iter().map(|event| {
            let handler = Arc::clone(&handler);
            async move { attempt(&*handler, event, TIMEOUT).await }
        });
        for verdict in join_all(tried).await {
            let (outcome, reason, _) = meaning(&verdict);
            assert_eq!((outcome, reason), (Outcome::BackPressure, Reason::Full), "round {round}: {verdict:?}");
        }
    }
    server.control(&["set_vm_memory_high_watermark", "0.4"]).await;
    for event in &events {
        eventually("the broker takes events again", || async {
            attempt(&*handler, event, TIMEOUT).await.is_delivered().then_some(())
        })
        .await;
    }
    assert_eq!(place.arrived(&server).await.len(), 21, "what was held back by the broker is not published a second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_outlives_an_alarm_without_spending_an_attempt() {
    let Some(server) = spare().await else { return };
    let place = Place::make(&server, "#", json!({})).await;
    let database = TestDatabase::create().await;
    let entry = format!(
        "[[handlers]]\nname = \"orders\"\nkind = \"rabbitmq\"\nretry = {{ max_attempts = 1 }}\n{}",
        place.settings(&server.url())
    );
    let relay = Binary::relay(database.url(), &entry).spawn(&["run"]);
    let delivered = async |count: i64| {
        eventually(&format!("{count} are delivered"), || async {
            (database.count("deliveries where state = 'delivered'").await == count).then_some(())
        })
        .await
    };
    database.insert_event(NewRow::new("a").of("order", 0)).await;
    delivered(1).await;
    server.control(&["set_vm_memory_high_watermark", "0.0001"]).await;
    database.insert_events((1..=100).map(|number| NewRow::new("a").of("order", number))).await;
    relay.wait_for_output("reason=full").await;
    server.control(&["set_vm_memory_high_watermark", "0.4"]).await;
    delivered(101).await;
    assert_eq!((place.arrived(&server).await.len(), database.count("deliveries where state = 'dead'").await), (101, 0));
}
