//! The kind `nats` against a real nats-server, read back by nats-py. Here: what arrives, and what a stream says to it.

mod access;
mod core;
mod jwt;
mod outages;
mod relay;
mod tls;

use std::sync::Arc;

use outboxd::domain::{Notification, Outcome, Reason, Verdict};
use outboxd::handlers::{Built, Handler, kind};
use outboxd::relay::attempt;
use uuid::Uuid;

use crate::conformance;
use crate::support::{DEADLINE, NatsServer, eventually, nats_server, nats_server_of};

fn handler(settings: &str) -> Arc<dyn Handler> {
    match conformance::build(kind("nats").expect("the kind is built in"), settings) {
        Built::Handler(handler) => handler,
        Built::Function(_) | Built::Projection(_) | Built::Publisher => panic!("it is no function"),
    }
}

/// A handler for the subjects of a stream.
fn publisher(server: &NatsServer, stream: &str, more: &str) -> Arc<dyn Handler> {
    handler(&format!("servers = [\"{}\"]\nsubject = \"{stream}.{{type}}\"\n{more}", server.url()))
}

fn event() -> Notification {
    Notification { id: Uuid::now_v7(), ..Notification::sample("order.placed", "{\"n\": 9007199254740993,\n \"a\":\"é\"}") }
}

async fn deliver(handler: &Arc<dyn Handler>, event: &Notification) -> Verdict {
    attempt(&**handler, event, DEADLINE).await
}

fn assert_verdict(verdict: &Verdict, outcome: Outcome, reason: Reason) {
    assert_eq!((verdict.outcome, verdict.reason), (outcome, reason), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_byte_for_byte_with_its_id_and_its_headers() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&[]).await;
    let plain = publisher(server, &stream, &format!("stream = \"{stream}\"\nheaders = {{ tenant = \"{{header:tenant}}\" }}"));
    let cloud = publisher(server, &stream, "format = \"cloudevents-binary\"\nsource = \"shop\"");
    let headers =
        r#"{"tenant":"a\r\nb%é","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"a=b, c=d"}"#;
    let (first, second) =
        (Notification { headers: headers.to_owned(), ..event() }, Notification { headers: headers.to_owned(), ..event() });

    assert_eq!(deliver(&plain, &first).await, Verdict::delivered());
    assert_eq!(deliver(&cloud, &second).await, Verdict::delivered());

    let stored = server.read(&stream).await;
    assert_eq!(stored.len(), 2);
    for (event, stored) in [&first, &second].into_iter().zip(&stored) {
        assert_eq!(stored["subject"], format!("{stream}.order.placed"));
        assert_eq!(stored["body"], event.payload);
        assert_eq!(stored["headers"]["Nats-Msg-Id"], event.id.to_string());
        assert_eq!(stored["headers"]["tracestate"], "a=b, c=d");
        assert_eq!(stored["headers"]["content-type"], "application/json");
    }
    assert_eq!(stored[0]["headers"]["tenant"], "a%0D%0Ab%25%C3%A9");
    assert_eq!(stored[0]["headers"]["event-key"], "order/42");
    assert_eq!(stored[1]["headers"]["ce-type"], "order.placed");
    assert_eq!(stored[1]["headers"]["ce-source"], "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_within_the_window_is_a_duplicate_and_stored_once() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&["duplicate_window=60"]).await;
    let (handler, event) = (publisher(server, &stream, ""), event());
    assert_eq!(deliver(&handler, &event).await, Verdict::delivered());
    assert_eq!(deliver(&handler, &Notification { attempt: 2, ..event }).await, Verdict::duplicate());
    assert_eq!(server.read(&stream).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_after_the_window_is_stored_again_under_the_same_id() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&["duplicate_window=0.1"]).await;
    let (handler, event) = (publisher(server, &stream, ""), event());
    assert_eq!(deliver(&handler, &event).await, Verdict::delivered());
    eventually("the window closes", || async { (deliver(&handler, &event).await == Verdict::delivered()).then_some(()) }).await;
    let stored = server.read(&stream).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0]["headers"], stored[1]["headers"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_no_stream_takes_is_a_fault_until_there_is_one() {
    let Some(server) = nats_server().await else { return };
    let missing = NatsServer::unused_name();
    let handler = publisher(server, &missing, "");
    let verdict = deliver(&handler, &event()).await;
    assert_verdict(&verdict, Outcome::HandlerFault, Reason::Unroutable);
    assert_eq!((verdict.ambiguous, verdict.status), (false, Some(503)));
    assert_eq!(verdict.detail, format!("no stream takes the subject {missing}.order.placed"));
    let stream = server.stream(&[]).await;
    assert_eq!(deliver(&publisher(server, &stream, ""), &event()).await, Verdict::delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_listens_to_a_subject_without_a_stream_makes_it_no_less_a_fault() {
    let Some(server) = nats_server().await else { return };
    let subject = NatsServer::unused_name();
    let listener = crate::support::Client::start("nats_client.py", &["listen", &server.client_url, &format!("{subject}.>")]).await;
    let handler = publisher(server, &subject, "confirm_timeout = \"300ms\"");
    assert_verdict(&deliver(&handler, &event()).await, Outcome::HandlerFault, Reason::Unroutable);
    listener.wait_for(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stream_than_the_expected_is_a_fault_and_stores_nothing() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&[]).await;
    let handler = publisher(server, &stream, "stream = \"OTHER\"");
    let verdict = deliver(&handler, &event()).await;
    assert_verdict(&verdict, Outcome::HandlerFault, Reason::Misconfigured);
    assert_eq!(verdict.status, Some(10060));
    assert_eq!(server.read(&stream).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_asks_for_less_and_goes_on_when_there_is_room() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&["max_msgs=1", "discard=\"new\""]).await;
    let (handler, second) = (publisher(server, &stream, ""), event());
    assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
    let verdict = deliver(&handler, &second).await;
    assert_verdict(&verdict, Outcome::BackPressure, Reason::Full);
    assert_eq!((verdict.status, verdict.ambiguous), (Some(10077), false));
    server.purge(&stream).await;
    assert_eq!(deliver(&handler, &second).await, Verdict::delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_server_or_the_stream_is_a_dead_letter_and_harms_no_other() {
    let Some(server) = nats_server_of("max_payload: 8192", &[]).await else { return };
    let stream = server.stream(&["max_msg_size=4096"]).await;
    let handler = publisher(&server, &stream, "");
    let of_size = |bytes: usize| Notification { payload: format!("\"{}\"", "x".repeat(bytes - 2)), ..event() };
    for (bytes, status) in [(5_000, Some(10054)), (8_192, None), (20_000, None)] {
        let verdict = deliver(&handler, &of_size(bytes)).await;
        assert_verdict(&verdict, Outcome::Permanent, Reason::TooLarge);
        assert_eq!((verdict.status, verdict.ambiguous), (status, false), "{bytes}");
    }
    assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
    assert_eq!(server.read(&stream).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_stands_at_the_address() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&["duplicate_window=3600"]).await;
    let subject_of =
        |subject: &str, more: &str| handler(&format!("servers = [\"{}\"]\nsubject = \"{subject}\"\n{more}", server.url()));
    let placed = format!("{stream}.placed");
    for (handler, want) in [
        (subject_of(&placed, ""), Ok(format!("stream {stream} takes {stream}.> and remembers ids for 1h"))),
        (subject_of("{type}", &format!("stream = \"{stream}\"")), Ok(format!("stream {stream} takes"))),
        (subject_of("{type}", ""), Ok("JetStream is on, with ".to_owned())),
        (subject_of("nobody.takes.this", ""), Err("but no stream takes the subject nobody.takes.this".to_owned())),
        (subject_of(&placed, "stream = \"OTHER\""), Err(format!("but the subject belongs to the stream {stream}, not to OTHER"))),
        (subject_of("{type}", "stream = \"OTHER\""), Err("but the stream OTHER cannot be used: stream not found".to_owned())),
        (subject_of("x", "mode = \"core\""), Ok("core NATS keeps nothing".to_owned())),
    ] {
        let (answer, want_ok) = (handler.probe().await, want.is_ok());
        let (answer, want) = (answer.clone().unwrap_or_else(|problem| problem), (answer.is_ok(), want.unwrap_or_else(|want| want)));
        assert!(answer.starts_with(&format!("connected to {} (nats-server ", server.service.address())), "{answer}");
        assert!(want.0 == want_ok && answer.contains(&want.1), "{answer}");
    }
}
