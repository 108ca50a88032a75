//! What a receiver learns of an event beside its payload: headers that are passed on, templates, and the aggregate in every format.

use serde_json::Value;

use super::*;

fn event() -> Notification {
    Notification {
        headers: r#"{"tenant":"Ac me","version":2,"test":true,"actor":"Jörg\r\nx: 1","deep":{"a":1},"none":null,
                     "correlation":"request-1","causation":7}"#
            .to_owned(),
        aggregate_version: Some(3),
        ..sample()
    }
}

async fn sent(settings: &str, event: &Notification) -> (axum::http::request::Parts, Value) {
    let receiver = Receiver::accepting().await;
    let handler = webhook(&format!("url = \"http://{}\"\n{settings}", receiver.address));
    let verdict = handler.deliver(event).await;
    assert!(verdict.is_delivered(), "{verdict:?}");
    let (head, body) = receiver.requests().remove(0);
    (head, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn headers_of_the_event_are_passed_on_under_their_names() {
    let settings = "forward_headers = [\"tenant\", \"version\", \"test\", \"deep\", \"none\", \"missing\"]";
    for format in super::super::super::envelope::CHOICES {
        let (head, _) = sent(&format!("{settings}\nformat = \"{format}\""), &event()).await;
        let told = ["tenant", "version", "test", "deep", "none", "missing"].map(|name| text(&head, name));
        assert_eq!(told, ["Ac me", "2", "true", "", "", ""], "{format}");
    }
}

#[tokio::test]
async fn a_value_of_an_event_never_ends_a_header() {
    let settings =
        "forward_headers = [\"actor\"]\nheaders = { \"x-who\" = \"by {header:actor} at 100%\", \"x-space\" = \"{payload:a}\" }";
    let event = Notification { payload: r#"{"a":" 5 % \"x\" "}"#.to_owned(), ..event() };
    let (head, _) = sent(settings, &event).await;
    assert_eq!(text(&head, "actor"), "J%C3%B6rg%0D%0Ax: 1");
    assert_eq!(text(&head, "x-who"), "by J%C3%B6rg%0D%0Ax: 1 at 100%", "the configured text stays as it is");
    assert_eq!(text(&head, "x-space"), "%205 %25 \"x\"%20");
    assert!(!head.headers.contains_key("x"));
}

#[tokio::test]
async fn headers_are_templates() {
    let settings = "headers = { \"x-route\" = \"{type}/{header:tenant}/{header:version}\", authorization = \"Bearer a{{b}}%41\" }";
    let (head, _) = sent(settings, &event()).await;
    assert_eq!(
        (text(&head, "x-route").as_str(), text(&head, "authorization").as_str()),
        ("order.placed/Ac me/2", "Bearer a{b}%41")
    );
    let verdict = webhook("url = \"http://127.0.0.1:1\"\nheaders = { x = \"{header:region}\" }").deliver(&event()).await;
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Unaddressable));
    assert!(verdict.detail.contains("header \"region\"") && verdict.detail.contains("headers.x"), "{}", verdict.detail);
}

#[tokio::test]
async fn every_format_tells_the_aggregate_and_its_version() {
    for format in super::super::super::envelope::CHOICES {
        let (head, body) = sent(&format!("format = \"{format}\""), &event()).await;
        let told = ["webhook-aggregate-type", "webhook-aggregate-id", "webhook-aggregate-version"].map(|name| text(&head, name));
        assert_eq!(told, ["order", "42", "3"], "{format}");
        match *format {
            "cloudevents-binary" => {
                let told = ["ce-subject", "ce-aggregatetype", "ce-aggregateversion"].map(|name| text(&head, name));
                assert_eq!(told, ["42", "order", "3"]);
            }
            "cloudevents-structured" => {
                assert_eq!([&body["subject"], &body["aggregatetype"], &body["aggregateversion"]], ["42", "order", "3"]);
            }
            _ => {}
        }
    }
    let bare = Notification { aggregate_type: None, aggregate_id: None, ..sample() };
    let (head, _) = sent("format = \"cloudevents-binary\"", &bare).await;
    assert!(head.headers.keys().all(|name| !name.as_str().contains("aggregate") && name != "ce-subject"), "{:?}", head.headers);
}

#[tokio::test]
async fn the_subject_tells_an_order_from_an_invoice() {
    let settings = "cloudevents_subject = \"{aggregate_type}/{aggregate_id}\"\nformat = ";
    let (head, _) = sent(&format!("{settings}\"cloudevents-binary\""), &event()).await;
    assert_eq!(text(&head, "ce-subject"), "order/42");
    let invoice = Notification { aggregate_type: Some("invoice".to_owned()), ..event() };
    let (_, body) = sent(&format!("{settings}\"cloudevents-structured\""), &invoice).await;
    assert_eq!(body["subject"], "invoice/42");
    let without = Notification { aggregate_type: None, ..event() };
    let (_, body) = sent(&format!("{settings}\"cloudevents-structured\""), &without).await;
    assert_eq!(body.get("subject"), None, "an event without the value has no subject, and is delivered");
}

#[tokio::test]
async fn correlation_and_causation_are_attributes() {
    let (head, _) = sent("format = \"cloudevents-binary\"", &event()).await;
    assert_eq!((text(&head, "ce-correlationid").as_str(), text(&head, "ce-causationid").as_str()), ("request-1", "7"));
    let (_, body) = sent("format = \"cloudevents-structured\"", &event()).await;
    assert_eq!((&body["correlationid"], &body["causationid"]), (&"request-1".into(), &"7".into()));
    let other = Notification { headers: r#"{"correlation_id":"r"}"#.to_owned(), ..event() };
    assert_eq!(sent("format = \"cloudevents-structured\"", &other).await.1["correlationid"], "r");
}

#[test]
fn headers_that_cannot_be_sent_are_mistakes() {
    for (settings, want) in [
        ("forward_headers = [\"Content-Type\"]", "handlers.test.forward_headers: \"Content-Type\" is written by outboxd itself"),
        ("forward_headers = [\"webhook-id\"]", "handlers.test.forward_headers: \"webhook-id\" is written by outboxd itself"),
        ("forward_headers = [\"traceparent\"]", "handlers.test.forward_headers: \"traceparent\" is passed on anyway"),
        ("forward_headers = [\"a b\"]", "handlers.test.forward_headers: \"a b\" is not the name of a header"),
        ("forward_headers = [\"a\", \"A\"]", "handlers.test.forward_headers: \"A\" is given more than once"),
        ("forward_headers = [\"a\"]\nheaders = { A = \"x\" }", "handlers.test.forward_headers: \"a\" is set by headers as well"),
        ("headers = { a = \"s3cret{s3cret}\" }", "handlers.test.headers.a: is no template: {...} names no value"),
        ("headers = { a = \"s3cret{\" }", "handlers.test.headers.a: is no template: a \"{\" is never closed"),
        ("headers = { a = \"x\\ny{id}\" }", "handlers.test.headers.a: got a value that no header can have"),
        ("cloudevents_subject = \"{nobody}\"", "handlers.test.cloudevents_subject: {nobody} names no value"),
    ] {
        let mistakes = mistakes_of(&format!("url = \"http://127.0.0.1:1\"\n{settings}"));
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(want), "{mistakes:?}");
        assert!(!mistakes[0].contains("s3cret"), "{mistakes:?}");
    }
}
