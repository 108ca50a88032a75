//! The built relay in front of a real server: what its operator sees of trouble, and that nothing is lost in it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Binary, NatsServer, NewRow, TestDatabase, eventually, get, nats_server, nats_server_of};

const EVENTS: i64 = 2_000;
const KEYS: i64 = 40;
const POLICY: &str = "concurrency = 64\nretry = { base = \"50ms\", factor = 1.0, max_delay = \"50ms\", max_attempts = 3 }\n\
                      circuit = { first_probe = \"100ms\", max_probe = \"200ms\" }";

fn entry(server: &NatsServer, stream: &str, more: &str) -> String {
    format!(
        "[[handlers]]\nname = \"far\"\nkind = \"nats\"\nservers = [\"{}\"]\nsubject = \"{stream}.{{type}}\"\n{POLICY}\n{more}\n",
        server.url()
    )
}

fn event(number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", (number % KEYS).to_string()).payload(json!({ "n": number }))
}

async fn wait_for(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await >= count).then_some(()) }).await;
}

async fn wait_for_series(address: &str, series: &str) {
    eventually(series, || async {
        let text = get(address, "/metrics").await.ok()?.1;
        let value: f64 = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())?;
        (value > 0.0).then_some(())
    })
    .await;
}

fn number_of(stored: &Value) -> i64 {
    let payload: Value = serde_json::from_str(stored["body"].as_str().expect("a text")).expect("JSON");
    payload["n"].as_i64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_costs_nothing_but_time() {
    let Some(mut server) = nats_server_of("", &[]).await else { return };
    let (database, stream) = (TestDatabase::create().await, server.stream(&[]).await);
    let relay = Binary::relay(database.url(), &entry(&server, &stream, "")).spawn(&["run"]);
    database.insert_events((0..EVENTS / 2).map(event)).await;
    wait_for(&database, "deliveries where state = 'delivered'", 100).await;

    server.service.kill().await;
    // However quick the relay was: these meet nobody.
    database.insert_events((EVENTS / 2..EVENTS).map(event)).await;
    wait_for(&database, "subscriptions where circuit <> 'closed'", 1).await;
    server.service.start_again().await;

    wait_for(&database, "deliveries where state = 'delivered'", EVENTS).await;
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0);
    let mut keys: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for number in server.read(&stream).await.iter().map(number_of) {
        keys.entry(number % KEYS).or_default().push(number);
    }
    for (key, numbers) in keys {
        let want: Vec<i64> = (0..EVENTS).filter(|number| number % KEYS == key).collect();
        assert_eq!(numbers, want, "each once and in order of key {key}");
    }
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_holds_events_back_and_spends_nothing() {
    let Some(server) = nats_server().await else { return };
    let (database, stream) = (TestDatabase::create().await, server.stream(&["max_msgs=1", "discard=\"new\""]).await);
    let (relay, address) = Binary::relay_with_http(database.url(), &entry(server, &stream, "")).serve().await;
    database.insert_events((0..2).map(event)).await;

    wait_for_series(&address, "outboxd_deliveries_total{handler=\"far\",kind=\"nats\",outcome=\"back_pressure\"}").await;
    wait_for(&database, "deliveries where state = 'delivered'", 1).await;
    assert_eq!(database.count("deliveries where state in ('delivered', 'dead')").await, 1);
    server.purge(&stream).await;
    wait_for(&database, "deliveries where state = 'delivered'", 2).await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_holds_events_back_until_the_server_knows_it() {
    let users = |password: &str| format!("authorization {{ users: [ {{ user: relay, password: \"{password}\" }} ] }}");
    let Some(mut server) = nats_server_of(&users("old-password"), &[]).await else { return };
    server.client_url = format!("nats://relay:old-password@{}", server.service.address());
    let (database, stream) = (TestDatabase::create().await, server.stream(&[]).await);
    let login = "username = \"relay\"\npassword = \"${NEW_PASSWORD}\"";
    let binary = Binary::relay_with_http(database.url(), &entry(&server, &stream, login)).env("NEW_PASSWORD", "new-password");
    let (relay, address) = binary.serve().await;
    database.insert_events((0..20).map(event)).await;
    wait_for_series(&address, "outboxd_deliveries_total{handler=\"far\",kind=\"nats\",outcome=\"handler_fault\"}").await;
    wait_for(&database, "subscriptions where circuit <> 'closed'", 1).await;

    let config = server.service.directory().join("server.conf");
    let text = std::fs::read_to_string(&config).expect("the test wrote it").replace("old-password", "new-password");
    std::fs::write(&config, text).expect("the directory is ours");
    server.service.stop().await;
    server.service.start_again().await;

    wait_for(&database, "deliveries where state = 'delivered'", 20).await;
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0);
    relay.terminate();
    let finished = relay.finish().await;
    assert!(finished.code == Some(0) && !finished.stderr.contains("new-password"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("async_nats"), "the client is silent: {}", finished.stderr);
}
