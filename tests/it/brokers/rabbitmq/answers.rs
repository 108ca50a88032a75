//! What is made of the broker's word: no queue, a full queue, no exchange, no right, too large. Nothing that was not stored counts as
//! delivered, and one event's trouble is no other's.

use std::sync::Arc;

use futures_util::future::join_all;
use outboxd::domain::{Notification, Outcome, Reason};
use serde_json::json;

use super::server::{LARGEST_MESSAGE, PASSWORD, shared, unique};
use super::{Place, deliver, handler, meaning, settings};
use crate::conformance::numbered;
use crate::support::{Binary, NewRow, TestDatabase, eventually, get};

fn of_type(event_type: &str, number: u64) -> Notification {
    Notification { event_type: event_type.to_owned(), ..numbered(&number.to_string(), number) }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_events_in_flight_gets_its_own_answer() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "wanted", json!({})).await;
    let handler = handler(&place.settings(&server.url()));
    // A channel that is there already would be shared, if channels were; then some that no queue took passed for delivered.
    assert!(deliver(&handler, &of_type("wanted", 1_000)).await.is_delivered());
    let events = (0..1_000).map(|number| of_type(if number % 3 == 0 { "unwanted" } else { "wanted" }, number));
    let answers = join_all(events.map(|event| {
        let handler = Arc::clone(&handler);
        async move { (deliver(&handler, &event).await, event) }
    }))
    .await;
    for (verdict, event) in &answers {
        let want = match event.event_type.as_str() {
            "wanted" => (Outcome::Delivered, Reason::Ok, false),
            _ => (Outcome::HandlerFault, Reason::Unroutable, false),
        };
        assert_eq!(meaning(verdict), want, "{verdict:?}");
    }
    assert_eq!(place.arrived(server).await.len(), 667);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_group_on_one_channel_gets_its_own_answer() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "wanted", json!({})).await;
    let handler = handler(&place.settings(&server.url()));
    let groups = (0..40_u64).map(|group| {
        let handler = Arc::clone(&handler);
        async move {
            // Another mixture in each, so that returns come first, last and side by side.
            let is_wanted = |place: u64| !(group * 7 + place * place).is_multiple_of(group % 5 + 2);
            let events: Vec<_> =
                (0..32).map(|place| of_type(if is_wanted(place) { "wanted" } else { "unwanted" }, group * 32 + place)).collect();
            let verdicts = handler.deliver_all(events.iter().collect()).await;
            for (event, verdict) in events.iter().zip(&verdicts) {
                let want = match event.event_type.as_str() {
                    "wanted" => (Outcome::Delivered, Reason::Ok, false),
                    _ => (Outcome::HandlerFault, Reason::Unroutable, false),
                };
                assert_eq!(meaning(verdict), want, "group {group}: {verdict:?}");
            }
            events.iter().filter(|event| event.event_type == "wanted").count()
        }
    });
    let wanted: usize = join_all(groups).await.into_iter().sum();
    assert_eq!(place.arrived(server).await.len(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_closes_the_channel_of_a_group_is_the_trouble_of_one() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "wanted", json!({})).await;
    let handler = handler(&format!("{}max_payload = \"64MiB\"\n", place.settings(&server.url())));
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(LARGEST_MESSAGE + 1));
    // Often: now and then events of the group leave after the broker has closed the channel, and then it ends the connection.
    for round in 0..40 {
        let events: Vec<_> = (0..9)
            .map(|number| match number {
                4 => Notification { payload: large.clone(), ..of_type("wanted", 4) },
                _ => of_type("wanted", number),
            })
            .collect();
        let verdicts = handler.deliver_all(events.iter().collect()).await;
        for (number, verdict) in verdicts.iter().enumerate() {
            let want =
                if number == 4 { (Outcome::Permanent, Reason::TooLarge, false) } else { (Outcome::Delivered, Reason::Ok, false) };
            assert_eq!(meaning(verdict), want, "round {round}, {number}: {verdict:?}");
        }
    }
    let arrived: std::collections::BTreeSet<_> =
        place.arrived(server).await.into_iter().map(|one| one["message_id"].to_string()).collect();
    assert_eq!(arrived.len(), 40 * 8, "whoever was on the channel before it was closed may be there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_no_queue_takes_are_held_until_one_is_bound() {
    let Some(server) = shared().await else { return };
    let place = Place { exchange: unique("exchange"), queue: unique("queue") };
    server.steps(json!([["exchange", place.exchange, "topic"]])).await;
    let database = TestDatabase::create().await;
    let entry = format!(
        "[[handlers]]\nname = \"orders\"\nkind = \"rabbitmq\"\ncircuit = {{ first_probe = \"100ms\", max_probe = \"200ms\" }}\n\
         retry = {{ max_attempts = 2, base = \"10ms\" }}\n{}",
        place.settings(&server.url())
    );
    let (relay, address) = Binary::relay_with_http(database.url(), &entry).serve().await;
    database.insert_events((0..20).map(|number| NewRow::new("order.placed").of("order", number))).await;
    let line = relay.wait_for_output("circuit open").await;
    assert!(line.contains("reason=unroutable") && line.contains("no queue is bound to the exchange"), "{line}");
    eventually("the metrics tell it", || async {
        let metrics = get(&address, "/metrics").await.expect("it is served").1;
        let lines = || metrics.lines().filter(|line| line.starts_with("outboxd_deliveries_total"));
        lines().any(|line| line.contains("outcome=\"handler_fault\"") && !line.ends_with(" 0")).then_some(())
    })
    .await;
    assert_eq!(database.count("deliveries where state = 'delivered'").await, 0);
    place.bind(server, "order.*", json!({})).await;
    eventually("all are delivered", || async {
        (database.count("deliveries where state = 'delivered'").await == 20).then_some(())
    })
    .await;
    assert_eq!((place.arrived(server).await.len(), database.count("deliveries where state = 'dead'").await), (20, 0));
    assert!(!relay.stderr().contains("lapin"), "the crate logs what it carries: {}", relay.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_asks_for_less_until_it_has_room() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({"x-max-length": 1, "x-overflow": "reject-publish"})).await;
    let handler = handler(&place.settings(&server.url()));
    let (first, second) = (numbered("a", 1), numbered("a", 2));
    assert!(deliver(&handler, &first).await.is_delivered());
    let full = || async {
        let verdict = deliver(&handler, &second).await;
        // The broker counts the first only after it has confirmed it.
        if verdict.is_delivered() {
            server.steps(json!([["purge", place.queue]])).await;
        }
        (!verdict.is_delivered()).then_some(verdict)
    };
    let verdict = full().await.expect("the queue is full");
    assert_eq!(meaning(&verdict), (Outcome::BackPressure, Reason::Nacked, false), "{verdict:?}");
    server.steps(json!([["purge", place.queue]])).await;
    assert!(deliver(&handler, &second).await.is_delivered());
    assert_eq!(place.arrived(server).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_gone_is_a_fault_and_costs_no_connection() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let name = unique("handler");
    let handler = super::named(&name, &place.settings(&server.url()));
    assert!(deliver(&handler, &numbered("a", 1)).await.is_delivered());
    let before = server.connections(&name).await;
    server.steps(json!([["delete_exchange", place.exchange]])).await;
    for number in 2..5 {
        let verdict = deliver(&handler, &numbered("a", number)).await;
        assert_eq!(meaning(&verdict), (Outcome::HandlerFault, Reason::NotFound, false), "{verdict:?}");
    }
    server.steps(json!([["exchange", place.exchange, "topic"], ["bind", place.queue, place.exchange, "#"]])).await;
    assert!(deliver(&handler, &numbered("a", 5)).await.is_delivered());
    assert_eq!((server.connections(&name).await, before.len()), (before, 1));
    assert_eq!(place.arrived(server).await.len(), 2);
}

/// What was declared at connecting and vanished while running is declared again, on the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_declared_exchange_that_is_gone_is_declared_again() {
    let Some(server) = shared().await else { return };
    let place = Place { exchange: unique("exchange"), queue: unique("queue") };
    let name = unique("handler");
    let entry = place.settings(&server.url()) + "declare_exchange = \"topic\"\nunroutable = \"accept\"\n";
    let handler = super::named(&name, &entry);
    assert!(deliver(&handler, &numbered("a", 1)).await.is_delivered());
    let before = server.connections(&name).await;
    for number in [2, 4] {
        server.steps(json!([["delete_exchange", place.exchange]])).await;
        assert!(deliver(&handler, &numbered("a", number)).await.is_delivered(), "nobody is bound, and that is accepted");
        place.bind(server, "#", json!({})).await;
        assert!(deliver(&handler, &numbered("a", number + 1)).await.is_delivered());
    }
    assert_eq!(server.connections(&name).await, before);
    assert_eq!(place.arrived(server).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_server_finds_too_large_is_buried_alone() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let name = unique("handler");
    let handler = super::named(&name, &place.settings(&server.url()));
    assert!(deliver(&handler, &numbered("a", 1)).await.is_delivered());
    let before = server.connections(&name).await;
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(LARGEST_MESSAGE));
    let events = (0..60).map(|number| match number % 6 {
        0 => Notification { payload: large.clone(), ..of_type("large", number) },
        1 => Notification { key: Some("k".repeat(200_000)), ..of_type("large", number) },
        _ => of_type("small", number),
    });
    let answers = join_all(events.map(|event| {
        let handler = Arc::clone(&handler);
        async move { (deliver(&handler, &event).await, event) }
    }))
    .await;
    for (verdict, event) in &answers {
        let want = match event.event_type.as_str() {
            "small" => (Outcome::Delivered, Reason::Ok, false),
            _ => (Outcome::Permanent, Reason::TooLarge, false),
        };
        assert_eq!(meaning(verdict), want, "{verdict:?}");
    }
    assert_eq!(server.connections(&name).await, before);
    assert_eq!(place.arrived(server).await.len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_is_told_what_is_wrong() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let (unauthorized, not_found) = (Reason::Unauthorized, Reason::NotFound);
    let mismatched = place.settings(&server.url()) + "declare_exchange = \"fanout\"\n";
    let undeclared = settings(&server.url_of("reader", PASSWORD, ""), &unique("exchange")) + "declare_exchange = \"topic\"\n";
    for (settings, reason, text) in [
        (place.settings(&server.url_of("relay", "wrong-password", "")), unauthorized, "Login was refused"),
        (place.settings(&server.url_of("nobody", PASSWORD, "")), unauthorized, "Login was refused"),
        (place.settings(&server.url_of("relay", PASSWORD, "/nowhere")), not_found, "vhost nowhere not found"),
        (place.settings(&server.url_of("relay", PASSWORD, "/closed")), unauthorized, "access to vhost 'closed' refused"),
        (place.settings(&server.url_of("reader", PASSWORD, "")), unauthorized, "refused for user 'reader'"),
        (settings(&server.url(), &unique("nothing")), not_found, "no exchange"),
        (undeclared, unauthorized, "refused for user 'reader'"),
        (mismatched, Reason::Misconfigured, "inequivalent arg 'type'"),
    ] {
        let handler = handler(&settings);
        let verdict = deliver(&handler, &numbered("a", 1)).await;
        assert_eq!(meaning(&verdict), (Outcome::HandlerFault, reason, false), "{verdict:?}\n{settings}");
        assert!(verdict.detail.contains(text), "{verdict:?}");
        assert!(!format!("{verdict:?}").contains("wrong-password") && !format!("{verdict:?}").contains(PASSWORD), "{verdict:?}");
        // A right to write shows only when something is written, a declaration only when it is made.
        if let Err(problem) = handler.probe().await {
            assert!(problem.contains(text) && !problem.contains("password"), "{problem}");
        }
    }
    assert_eq!(place.arrived(server).await.len(), 0);
}
