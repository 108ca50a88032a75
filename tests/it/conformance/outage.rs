//! Against a receiver that goes away and comes back while the built relay works: nothing is lost, nothing buried, nothing out of order.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use outboxd::handlers::Kind;
use serde_json::json;

use super::{Counterpart, counterparts};
use crate::support::{Binary, NewRow, TestDatabase, eventually};

const EVENTS: i64 = 1_000;
const KEYS: i64 = 50;

/// Gives up on an event after few attempts, and asks again soon: an outage outlives every retry.
const POLICY: &str = "concurrency = 32\nretry = { base = \"50ms\", factor = 1.0, max_delay = \"50ms\", max_attempts = 3 }\n\
                      circuit = { first_probe = \"200ms\", max_probe = \"500ms\" }";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_while_the_receiver_is_away_arrives_when_it_is_back_in_order_and_once() {
    let outages = counterparts().await.into_iter().map(|(kind, counterpart)| async move { outlives(kind, counterpart).await });
    join_all(outages).await;
}

async fn outlives(kind: &Kind, mut counterpart: Box<dyn Counterpart>) {
    counterpart.stand_alone().await;
    let database = TestDatabase::create().await;
    let entry = format!("[[handlers]]\nname = \"far\"\nkind = \"{}\"\n{POLICY}\n{}\n", kind.name, counterpart.settings());
    let relay = Binary::relay(database.url(), &entry).spawn(&["run"]);
    database.insert_event(event(0)).await;
    eventually(&format!("{}: the first event is delivered", kind.name), || async {
        (database.count("deliveries where state = 'delivered'").await == 1).then_some(())
    })
    .await;

    counterpart.take_away().await;
    database.insert_events((1..=EVENTS).map(event)).await;
    eventually(&format!("{}: the circuit opens", kind.name), || async {
        (database.count("subscriptions where circuit <> 'closed'").await == 1).then_some(())
    })
    .await;
    counterpart.bring_back().await;
    eventually(&format!("{}: everything is delivered", kind.name), || async {
        (database.count("deliveries where state = 'delivered'").await == EVENTS + 1).then_some(())
    })
    .await;

    let arrived = counterpart.arrived().await;
    let mut keys: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for one in &arrived {
        let payload: serde_json::Value = serde_json::from_str(&one.body).expect("JSON");
        let number = payload["n"].as_i64().expect("a number");
        keys.entry((number % KEYS).to_string()).or_default().push(number);
    }
    assert_eq!(arrived.len() as i64, EVENTS + 1, "{}: each once", kind.name);
    for (key, numbers) in keys {
        let want: Vec<i64> = (0..=EVENTS).filter(|number| (number % KEYS).to_string() == key).collect();
        assert_eq!(numbers, want, "{}: the order of key {key}", kind.name);
    }
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0, "{}", kind.name);
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0), "{}", kind.name);
}

fn event(number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", number % KEYS).payload(json!({ "n": number }))
}
