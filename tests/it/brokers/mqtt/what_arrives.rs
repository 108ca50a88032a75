//! What a receiver gets: topic, payload and properties, in every format.

use outboxd::domain::{Notification, Outcome, Reason, Verdict};
use serde_json::{Value, json};

use super::{Mosquitto, deliver, deliver_many, handler};
use crate::conformance::numbered;

const PAYLOAD: &str = "{\"total\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn event() -> Notification {
    Notification {
        headers: format!(r#"{{"traceparent":"{PARENT}","tenant":"acme"}}"#),
        is_replay: true,
        ..Notification::sample("order.placed", PAYLOAD)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_arrives_as_it_is_described() {
    let Some(server) = Mosquitto::start("").await else { return };
    let reader = server.reader("#").await;
    let id = event().id.to_string();
    let formats = [
        ("plain", "headers = { tenant = \"{header:tenant}\" }"),
        ("cloudevents-binary", "source = \"shop\""),
        ("cloudevents-structured", "source = \"shop\"\nqos = 2\nmessage_expiry = \"1h\""),
    ];
    for (format, more) in formats {
        let settings = server.settings("shop/{type}/{key}", &format!("format = \"{format}\"\n{more}"));
        assert_eq!(deliver(&handler(&settings), &event()).await, Verdict::delivered(), "{format}");
    }
    let received = reader.wait_for(3).await;
    let facts = |one: &Value| (one["topic"].clone(), one["content_type"].clone(), one["utf8"].clone(), one["qos"].clone());
    let want = |content_type: &str, qos: u8| (json!("shop/order.placed/order/42"), json!(content_type), json!(1), json!(qos));
    assert_eq!(facts(&received[0]), want("application/json", 1));
    assert_eq!(facts(&received[1]), want("application/json", 1));
    assert_eq!(facts(&received[2]), want("application/cloudevents+json", 2));

    assert_eq!(received[0]["payload"], PAYLOAD);
    assert_eq!(
        received[0]["properties"],
        json!({
            "event-id": id, "event-type": "order.placed", "event-time": "2023-11-14T22:13:20.000000Z", "event-key": "order/42",
            "aggregate-type": "order", "aggregate-id": "42", "traceparent": PARENT, "tenant": "acme", "event-replay": "true",
        })
    );
    assert_eq!(received[1]["payload"], PAYLOAD);
    assert_eq!(
        received[1]["properties"],
        json!({
            "specversion": "1.0", "id": id, "source": "shop", "type": "order.placed", "time": "2023-11-14T22:13:20.000000Z",
            "subject": "42", "aggregatetype": "order", "traceparent": PARENT, "event-replay": "true",
        })
    );
    let body = received[2]["payload"].as_str().expect("a text");
    assert!(body.ends_with(&format!(",\"data\":{PAYLOAD}}}")), "{body}");
    assert!(received[2]["expiry"].as_u64().is_some_and(|seconds| (3_500..=3_600).contains(&seconds)), "{}", received[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_event_is_there_for_those_who_come_later() {
    let Some(server) = Mosquitto::start("").await else { return };
    let handler = handler(&server.settings("last/{aggregate_id}", "retain = true"));
    for number in 0..3 {
        assert!(deliver(&handler, &numbered("a", number)).await.is_delivered());
    }
    let received = server.reader("last/#").await.wait_for(1).await;
    assert_eq!((&received[0]["payload"], &received[0]["retain"]), (&json!("{\"n\":2}"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_deliveries_share_one_session_with_a_client_id_of_its_own() {
    let Some(server) = Mosquitto::start("").await else { return };
    let handlers = [handler(&server.settings("a", "")), handler(&server.settings("a", ""))];
    for one in &handlers {
        assert!(deliver_many(one, 200).await.iter().all(Verdict::is_delivered));
    }
    assert_eq!((server.logged("as outboxd-tried-"), server.logged("already connected")), (2, 0));
    drop(handlers);
    crate::support::eventually("the sessions are left politely", || async {
        (server.logged("Received DISCONNECT from outboxd-tried-") == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_mqtt_cannot_carry_is_a_dead_letter_and_disturbs_nobody() {
    let Some(server) = Mosquitto::start("").await else { return };
    let handler = handler(&server.settings("a/{type}", ""));
    assert!(deliver(&handler, &numbered("a", 0)).await.is_delivered());
    for event_type in ["a+b", "a/#", "a\tb", "a\u{7f}b", "a\u{fffe}"] {
        let verdict = deliver(&handler, &Notification { event_type: event_type.to_owned(), ..numbered("a", 1) }).await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Unaddressable), "{event_type:?} {verdict:?}");
    }
    assert!(deliver(&handler, &numbered("a", 2)).await.is_delivered());
    assert_eq!(server.logged("as outboxd-tried-"), 1, "the session was never lost");
}
