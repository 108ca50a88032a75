//! The built relay in front of a real server: while the server takes nothing, events are held; afterwards all are there, in order.

use std::collections::BTreeMap;

use serde_json::json;

use super::server::{RedisServer, a_stream, shared};
use crate::support::{Binary, NewRow, Proxy, TestDatabase, eventually, get};

const KEYS: i64 = 20;

/// Gives up on an event after few attempts: an outage outlives every retry.
const POLICY: &str = "concurrency = 16\nretry = { base = \"50ms\", factor = 1.0, max_delay = \"50ms\", max_attempts = 3 }\n\
                      circuit = { first_probe = \"100ms\", max_probe = \"200ms\" }";

fn entry(url: &str, stream: &str) -> String {
    format!("[[handlers]]\nname = \"far\"\nkind = \"redis\"\n{POLICY}\nurl = \"{url}\"\nstream = \"{stream}\"\n")
}

fn event(number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", number % KEYS).payload(json!({ "n": number }))
}

async fn wait_for_delivered(database: &TestDatabase, count: i64) {
    eventually(&format!("{count} events are delivered"), || async {
        (database.count("deliveries where state = 'delivered'").await >= count).then_some(())
    })
    .await;
}

/// Waits until more attempts ended so than an event has.
async fn wait_for_attempts(address: &str, outcome: &str) {
    let series = format!("outboxd_deliveries_total{{handler=\"far\",kind=\"redis\",outcome=\"{outcome}\"}} ");
    eventually(&format!("more than three attempts ended as {outcome}"), || async {
        let (_, metrics) = get(address, "/metrics").await.ok()?;
        let number = metrics.lines().find_map(|line| line.strip_prefix(series.as_str())?.parse::<f64>().ok())?;
        (number > 3.0).then_some(())
    })
    .await;
}

/// Each key has all of its events, each for the first time after those before it.
async fn assert_all_in_order(server: &RedisServer, stream: &str, events: i64) {
    let mut keys: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for one in server.arrived(stream).await {
        let payload: serde_json::Value = serde_json::from_str(&one.body).expect("JSON");
        let number = payload["n"].as_i64().expect("a number");
        let seen = keys.entry(number % KEYS).or_default();
        if !seen.contains(&number) {
            seen.push(number);
        }
    }
    for key in 0..KEYS {
        let want: Vec<i64> = (0..events).filter(|number| number % KEYS == key).collect();
        assert_eq!(keys.get(&key), Some(&want), "key {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_held_while_memory_is_full() {
    let Some(server) = RedisServer::start(&["--maxmemory-policy", "noeviction"]).await else { return };
    let database = TestDatabase::create().await;
    let (relay, address) = Binary::relay_with_http(database.url(), &entry(&server.url(), "orders")).serve().await;
    database.insert_event(event(0)).await;
    wait_for_delivered(&database, 1).await;
    server.must(&["config", "set", "maxmemory", "1"]).await;
    database.insert_events((1..300).map(event)).await;
    wait_for_attempts(&address, "back_pressure").await;
    relay.wait_for_output("reason=full").await;
    assert_eq!(database.count("deliveries where state = 'delivered'").await, 1);
    server.must(&["config", "set", "maxmemory", "0"]).await;
    wait_for_delivered(&database, 300).await;
    assert_eq!(server.length("orders").await, 300, "each once");
    assert_all_in_order(&server, "orders", 300).await;
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0);
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_held_while_the_password_is_wrong_and_it_is_told_nowhere() {
    let Some(server) = shared().await else { return };
    let (stream, name) = (a_stream(), format!("user-{}", uuid::Uuid::new_v4().simple()));
    let url = format!("redis://{name}:passw0rd-of-the-test@127.0.0.1:{}", server.port());
    let database = TestDatabase::create().await;
    let (relay, address) = Binary::relay_with_http(database.url(), &entry(&url, &stream)).serve().await;
    database.insert_events((0..50).map(event)).await;
    wait_for_attempts(&address, "handler_fault").await;
    relay.wait_for_output("reason=unauthorized").await;
    eventually("the circuit opens", || async {
        (database.count("subscriptions where circuit <> 'closed'").await == 1).then_some(())
    })
    .await;
    server.must(&["acl", "setuser", &name, "on", ">passw0rd-of-the-test", "+xadd", "~*"]).await;
    wait_for_delivered(&database, 50).await;
    assert_eq!(server.length(&stream).await, 50);
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0);
    relay.terminate();
    let finished = relay.finish().await;
    assert!(!(finished.stdout + &finished.stderr).contains("passw0rd"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_connections_are_cut_again_and_again() {
    const EVENTS: i64 = 600;
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let database = TestDatabase::create().await;
    let relay = Binary::relay(database.url(), &entry(&url, &stream)).spawn(&["run"]);
    for round in 0..6 {
        database.insert_events((round * 100..(round + 1) * 100).map(event)).await;
        wait_for_delivered(&database, round * 100 + 10).await;
        proxy.cut();
        proxy.heal();
    }
    wait_for_delivered(&database, EVENTS).await;
    assert_all_in_order(server, &stream, EVENTS).await;
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0);
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}
