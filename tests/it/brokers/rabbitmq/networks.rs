//! Connections that break, stall, or are dropped.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use outboxd::domain::{Outcome, Reason};
use serde_json::json;

use super::server::{shared, unique};
use super::{Place, deliver, handler, meaning, named};
use crate::conformance::numbered;
use crate::support::{Binary, NewRow, Proxy, TestDatabase, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_while_events_are_published_lose_none() {
    const EVENTS: i64 = 2_000;
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let database = TestDatabase::create().await;
    let entry = format!(
        "[[handlers]]\nname = \"orders\"\nkind = \"rabbitmq\"\nconcurrency = 32\nretry = {{ base = \"20ms\", max_delay = \"50ms\" }}\n\
         circuit = {{ first_probe = \"100ms\", max_probe = \"200ms\" }}\n{}",
        place.settings(&url)
    );
    let relay = Binary::relay(database.url(), &entry).spawn(&["run"]);
    let events = (0..EVENTS).map(|number| NewRow::new("order.placed").of("order", number % 200).payload(json!({"n": number})));
    database.insert_events(events).await;
    let delivered = async || database.count("deliveries where state = 'delivered'").await;
    for cut in 1..=4 {
        eventually("some more are delivered", || async { (delivered().await >= cut * 100).then_some(()) }).await;
        proxy.cut();
        proxy.heal();
    }
    eventually("all are delivered", || async { (delivered().await == EVENTS).then_some(()) }).await;

    let arrived = place.arrived(server).await;
    let ids: BTreeSet<&str> = arrived.iter().map(|one| one["message_id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len() as i64, EVENTS, "each at least once, and every copy under the id of its event");
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0);
    for secret in [super::server::PASSWORD, "\"n\":"] {
        assert!(!relay.stderr().contains(secret), "{}", relay.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_says_nothing_may_have_the_event_and_is_not_asked_again() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&(place.settings(&url) + "confirm_timeout = \"300ms\"\nconnect_timeout = \"14s\""));
    assert!(deliver(&handler, &numbered("a", 1)).await.is_delivered());
    proxy.forget();
    let verdict = deliver(&handler, &numbered("a", 2)).await;
    assert_eq!(meaning(&verdict), (Outcome::Retry, Reason::Timeout, true), "{verdict:?}");
    assert!(deliver(&handler, &numbered("a", 2)).await.is_delivered(), "on a new connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_under_an_event_leaves_it_in_doubt() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&place.settings(&url));
    assert!(deliver(&handler, &numbered("a", 1)).await.is_delivered());
    // In the middle of the broker's word about the event, so that it had left.
    proxy.break_off_after(4);
    let verdict = deliver(&handler, &numbered("a", 2)).await;
    let (outcome, _, is_ambiguous) = meaning(&verdict);
    assert_eq!((outcome, is_ambiguous), (Outcome::Retry, true), "{verdict:?}");
    proxy.heal();
    eventually("it is delivered", || async { deliver(&handler, &numbered("a", 3)).await.is_delivered().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_dropped_says_goodbye() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let name = unique("handler");
    let handler = named(&name, &place.settings(&server.url()));
    join_all((0..20).map(|number| {
        let handler = Arc::clone(&handler);
        async move { assert!(deliver(&handler, &numbered("a", number)).await.is_delivered()) }
    }))
    .await;
    assert_eq!(server.connections(&name).await.len(), 1, "one for all");
    drop(handler);
    eventually("the connection is closed", || async { server.connections(&name).await.is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_allows_few_channels_is_enough() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let url = format!("{}?channel_max=10", server.url());
    let handler = handler(&place.settings(&url));
    join_all((0..200).map(|number| {
        let handler = Arc::clone(&handler);
        async move {
            let verdict = deliver(&handler, &numbered("a", number)).await;
            assert!(verdict.is_delivered(), "{verdict:?}");
        }
    }))
    .await;
    assert_eq!(place.arrived(server).await.len(), 200);
}
