//! What arrives of an event.

use outboxd::domain::{Notification, Outcome, Reason};
use serde_json::{Value, json};

use super::server::{shared, unique};
use super::{Place, deliver, handler, meaning, settings};
use crate::conformance::numbered;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PAYLOAD: &str = "{\"n\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";

fn event() -> Notification {
    Notification {
        payload: PAYLOAD.to_owned(),
        headers: format!(r#"{{"traceparent":"{PARENT}","tenant":"acmé"}}"#),
        ..numbered("42", 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_with_its_properties_and_byte_for_byte() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "order.#", json!({})).await;
    let more = "routing_key = \"{type}.{aggregate_id}\"\nheaders = { tenant = \"{header:tenant}\" }";
    let handler = handler(&(place.settings(&server.url()) + more));
    let event = event();
    assert!(deliver(&handler, &event).await.is_delivered());

    let arrived = place.arrived(server).await;
    let [arrived] = arrived.as_slice() else { panic!("one: {arrived:?}") };
    for (name, want) in [
        ("body", json!(PAYLOAD)),
        ("routing_key", json!("order.placed.42")),
        ("message_id", json!(event.id.to_string())),
        ("type", json!("order.placed")),
        ("timestamp", json!(1_700_000_000)),
        ("content_type", json!("application/json")),
        ("delivery_mode", json!(2)),
        ("app_id", json!("outboxd")),
    ] {
        assert_eq!(arrived[name], want, "{name}");
    }
    for (name, want) in
        [("event-id", &*event.id.to_string()), ("tenant", "acmé"), ("traceparent", PARENT), ("event-key", "order/42")]
    {
        assert_eq!(arrived["headers"][name], want, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_events_arrive_in_both_modes() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    for format in ["cloudevents-binary", "cloudevents-structured"] {
        let more = format!("format = \"{format}\"\nsource = \"shop\"\npersistent = false");
        assert!(deliver(&handler(&(place.settings(&server.url()) + &more)), &event()).await.is_delivered());
    }
    let arrived = place.arrived(server).await;
    let [binary, structured] = arrived.as_slice() else { panic!("two: {arrived:?}") };
    assert_eq!((&binary["headers"]["cloudEvents:source"], &binary["body"]), (&json!("shop"), &json!(PAYLOAD)));
    assert_eq!((&binary["content_type"], &binary["delivery_mode"]), (&json!("application/json"), &json!(1)));
    assert_eq!(structured["content_type"], "application/cloudevents+json");
    let body: Value = serde_json::from_str(structured["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&body["type"], &body["subject"]), (&json!("order.placed"), &json!("42")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_exchange_takes_the_name_of_a_queue_as_key() {
    let Some(server) = shared().await else { return };
    let queue = unique("queue");
    let handler = handler(&(settings(&server.url(), "") + &format!("routing_key = \"{queue}\"")));
    assert!(handler.probe().await.expect_err("there is no such queue").contains("no queue"));
    let verdict = deliver(&handler, &event()).await;
    assert_eq!(meaning(&verdict), (Outcome::HandlerFault, Reason::Unroutable, false), "{verdict:?}");
    server.steps(json!([["queue", queue, {"x-queue-type": "quorum"}]])).await;
    assert!(handler.probe().await.expect("it is there now").ends_with(&format!("queue \"{queue}\"")));
    assert!(deliver(&handler, &event()).await.is_delivered());
    assert_eq!(server.steps(json!([["read", queue]])).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_is_declared_when_that_is_asked_for() {
    let Some(server) = shared().await else { return };
    let (exchange, queue) = (unique("exchange"), unique("queue"));
    let declaring = settings(&server.url(), &exchange) + "declare_exchange = \"fanout\"\nunroutable = \"accept\"";
    let first = handler(&declaring);
    assert!(first.probe().await.expect("a probe declares nothing").ends_with("which will be declared"));
    assert!(first.probe().await.expect("and has declared nothing").ends_with("which will be declared"));
    // Nobody is bound yet, and nobody has to be.
    assert!(deliver(&first, &event()).await.is_delivered());
    assert!(first.probe().await.expect("it is there now").ends_with(&format!("exchange \"{exchange}\"")));
    server.steps(json!([["exchange", exchange, "fanout"], ["queue", queue, {}], ["bind", queue, exchange, ""]])).await;
    assert!(deliver(&first, &event()).await.is_delivered());
    assert_eq!(server.steps(json!([["read", queue]])).await.len(), 1);
}
