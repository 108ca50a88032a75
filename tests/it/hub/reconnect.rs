//! Clients that are cut, instances that are killed: nothing is lost behind a cursor and nothing comes twice.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::{TRANSPORTS, fixed, microsoft, order, placed, settings, url, wait_for_events};
use crate::feed::client::Served;
use crate::feed::{wait_for_places, writers};
use crate::support::{Binary, Proxy, TestDatabase, eventually, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn every_client_ends_with_the_same_events_whatever_is_cut_and_killed() {
    let database = TestDatabase::create().await;
    writers::prepare(&database).await;
    let (port, other) = (free_port(), free_port());
    let binary = Binary::relay(database.url(), &fixed(port));
    let (first, second) = (Served::of(&binary).await, Served::start(&database, &fixed(other)).await);
    let (proxy, through) = Proxy::in_front_of(&format!("http://{}", first.address)).await;
    let through = format!("{through}hubs/events");
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        for (types, name) in [(json!([]), "all"), (json!(["order.paid"]), "paid")] {
            let options = json!({ "transport": transport, "filters": { "types": types } });
            let urls = [through.clone(), url(&second.address)];
            let Some(client) = microsoft(&urls, options).await else { return };
            clients.push((transport, name, client));
        }
    }
    let writing = join_all((0..8).map(|writer| writers::write(&database, writer, 30)));
    let breaking = async {
        for count in [40, 80] {
            wait_for_places(&database, count).await;
            proxy.cut();
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.heal();
        }
        wait_for_places(&database, 120).await;
        first.running.kill().await;
        Served::of(&binary).await
    };
    let (written, again) = tokio::join!(writing, breaking);
    let all: usize = written.iter().flatten().map(Vec::len).sum();
    eventually("every event has its place", || async { (database.count("feed").await == all as i64).then_some(()) }).await;
    let placed = placed(&database).await;
    let ids: Vec<String> = placed.iter().map(|(id, _)| id.clone()).collect();
    let paid: Vec<String> = placed.into_iter().filter(|(_, of)| of == "order.paid").map(|(id, _)| id).collect();
    for (transport, name, client) in &clients {
        let want = if *name == "all" { &ids } else { &paid };
        let found = wait_for_events(client, want.len()).await;
        assert!(found == *want, "{transport} {name}: {} events, {} are there", found.len(), want.len());
    }
    again.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_client_is_cut_and_goes_on_with_the_same_connection() {
    let database = TestDatabase::create().await;
    let (served, binary) = Served::with_metrics(&database, &settings()).await;
    database.insert_event(order(1)).await;
    wait_for_places(&database, 1).await;
    let (proxy, through) = Proxy::in_front_of(&format!("http://{}", served.address)).await;
    let options = json!({ "transport": "WebSockets", "stateful": true, "tells": true, "cursor": "latest" });
    let Some(client) = microsoft(&[format!("{through}hubs/events")], options).await else { return };
    // Every connection is reset when the server has said so much on it, in the middle of a frame as it comes.
    let mut sent = Vec::new();
    for round in 0..4 {
        proxy.break_off_after(7_001);
        for number in 0..40 {
            sent.push(database.insert_event(order(2 + round * 40 + number)).await.to_string());
        }
        proxy.heal();
        assert_eq!(wait_for_events(&client, sent.len()).await, sent, "round {round}");
    }
    let lines = client.received();
    assert!(!lines.iter().any(|line| line.get("reconnecting").is_some() || line.get("closed").is_some()), "{lines:?}");
    let metrics = served.metrics().await;
    let count = |answer: &str| {
        let line = format!("outboxd_feed_requests_total{{client=\"all\",answer=\"{answer}\"}} ");
        metrics.lines().find_map(|known| known.strip_prefix(&line)).map(str::to_owned)
    };
    assert_eq!(count("hub").as_deref(), Some("1"), "one connection in all: {metrics}");
    drop(binary);
    served.stop().await;
}

/// The session and what it keeps are gone: the client's attempt to go on is refused, and it begins another connection with its cursor.
#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_client_whose_instance_was_killed_begins_again_with_its_cursor() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay(database.url(), &fixed(free_port()));
    let first = Served::of(&binary).await;
    let before = database.insert_events((1..=20).map(order)).await;
    wait_for_places(&database, 20).await;
    let options = json!({ "transport": "WebSockets", "stateful": true });
    let Some(client) = microsoft(&[url(&first.address)], options).await else { return };
    wait_for_events(&client, 20).await;
    first.running.kill().await;
    let after = database.insert_events((21..=40).map(order)).await;
    let second = Served::of(&binary).await;
    let want: Vec<String> = before.iter().chain(&after).map(ToString::to_string).collect();
    assert_eq!(wait_for_events(&client, 40).await, want);
    second.stop().await;
}
