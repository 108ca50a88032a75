//! A receiver that hangs up over one event, whenever it comes: that event alone suffers, whatever shares its connection.

use futures_util::future::join_all;
use outboxd::handlers::Kind;
use serde_json::json;

use super::{Counterpart, counterparts};
use crate::support::{Binary, NewRow, Proxy, TestDatabase, eventually};

const EVENTS: i64 = 200;
const POISON: &str = "hang-up-over-this";

/// Few attempts: a neighbour that paid would soon be a dead letter.
const POLICY: &str = "start = \"beginning\"\nconcurrency = 32\n\
                      retry = { base = \"50ms\", factor = 1.0, max_delay = \"50ms\", max_attempts = 3 }\n\
                      circuit = { first_probe = \"200ms\", max_probe = \"500ms\" }";

/// Seen with four kinds: what was in flight beside the event spent its attempts, and some of it never got a fourth.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_ends_every_connection_it_comes_on_costs_its_neighbours_nothing() {
    let trials = counterparts().await.into_iter().filter_map(|(kind, counterpart)| {
        // A client of Kafka connects to what the broker tells it, which is not the proxy; a program has no address.
        let has_address = !matches!(kind.name, "kafka" | "exec");
        has_address.then_some(async move { suffers_alone(kind, counterpart).await })
    });
    assert!(join_all(trials).await.len() > 1);
}

async fn suffers_alone(kind: &Kind, counterpart: Box<dyn Counterpart>) {
    let (settings, database) = (counterpart.settings(), TestDatabase::create().await);
    let (_, after) = settings.split_once("127.0.0.1:").expect("the address of the counterpart");
    let port: String = after.chars().take_while(char::is_ascii_digit).collect();
    let proxy = Proxy::to(format!("127.0.0.1:{port}").parse().expect("an address")).await;
    proxy.hang_up_over(POISON);
    let settings = settings.replace(&format!("127.0.0.1:{port}"), &proxy.address().to_string());
    let event = |n: i64| {
        let text = if n == EVENTS / 2 { POISON } else { "good" };
        NewRow::new("order.placed").of("order", n).payload(json!({ "n": n, "text": text }))
    };
    database.insert_events((0..EVENTS).map(event)).await;
    let entry = format!("[[handlers]]\nname = \"far\"\nkind = \"{}\"\n{POLICY}\n{settings}\n", kind.name);
    let relay = Binary::relay(database.url(), &entry).spawn(&["run"]);
    // Others go on coming, so that there is somebody beside it whenever it is tried.
    let mut last = EVENTS;
    loop {
        database.insert_events((last..last + 20).map(event)).await;
        last += 20;
        let done = eventually(&format!("{}: what came is settled", kind.name), || async {
            let dead = database.count("deliveries where state = 'dead'").await;
            (database.count("deliveries where state = 'delivered'").await >= last - 1).then_some(dead)
        })
        .await;
        if done > 0 {
            break;
        }
    }
    assert_eq!(database.count("deliveries where state = 'delivered' and attempts = 1").await, last - 1, "{}", kind.name);
    assert_eq!(database.count("deliveries where state = 'dead' and attempts = 3").await, 1, "{}", kind.name);
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0), "{}", kind.name);
}
