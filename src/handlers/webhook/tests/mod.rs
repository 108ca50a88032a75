//! The kind against real receivers on 127.0.0.1: what is sent, what is made of answers, and what misbehaving receivers can do.

mod batch;
mod hostile;
mod receiver;
mod secure;
mod told;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use self::receiver::{Receiver, mistakes_of, raw, read_request, webhook, webhook_resolving};
use super::signature::verify;
use super::*;
use crate::domain::{Outcome, Reason};
use crate::settings::Secret;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const PAYLOAD: &str = "{\"total\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";

fn sample() -> Notification {
    Notification::sample("order.placed", PAYLOAD)
}

fn text(head: &axum::http::request::Parts, name: &str) -> String {
    head.headers.get(name).map(|value| value.to_str().expect("ASCII").to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn the_payload_arrives_byte_for_byte_and_its_signatures_verify() {
    let receiver = Receiver::accepting().await;
    let handler = webhook(&format!("url = \"http://{}/in?k=v\"\nsecrets = [\"{SECRET}\", \"{OLD_SECRET}\"]", receiver.address));
    let retried = Notification { attempt: 3, ..sample() };
    assert_eq!(handler.deliver(&retried).await, Verdict::delivered().with_status(200));
    let (head, body) = receiver.requests().remove(0);
    assert_eq!(body, PAYLOAD);
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "/in?k=v"));
    for (name, want) in [
        ("webhook-id", "018f0000-0000-7000-8000-000000000001"),
        ("webhook-event-type", "order.placed"),
        ("webhook-attempt", "3"),
        ("webhook-replay", ""),
        ("content-type", "application/json"),
        ("content-length", &PAYLOAD.len().to_string()),
        ("user-agent", concat!("outboxd/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(text(&head, name), want, "{name}");
    }
    let (timestamp, signature) = (text(&head, "webhook-timestamp").parse().expect("seconds"), text(&head, "webhook-signature"));
    assert_eq!(signature.split(' ').count(), 2);
    for secret in [SECRET, OLD_SECRET] {
        assert!(verify(&[Secret::new(secret)], &text(&head, "webhook-id"), timestamp, &body, &signature));
    }
    assert!((jiff::Timestamp::now().as_second() - timestamp).abs() < 5);
}

#[tokio::test]
async fn a_replay_keeps_its_id_and_says_that_it_is_one() {
    let receiver = Receiver::accepting().await;
    let handler = webhook(&format!("url = \"http://{}\"", receiver.address));
    handler.deliver(&sample()).await;
    handler.deliver(&Notification { is_replay: true, ..sample() }).await;
    let requests = receiver.requests();
    assert_eq!(text(&requests[0].0, "webhook-id"), text(&requests[1].0, "webhook-id"));
    assert_eq!([text(&requests[0].0, "webhook-replay"), text(&requests[1].0, "webhook-replay")], ["", "true"]);
    assert_eq!(text(&requests[0].0, "webhook-signature"), "");
}

#[tokio::test]
async fn an_odd_event_type_arrives_percent_encoded() {
    let receiver = Receiver::accepting().await;
    let handler = webhook(&format!("url = \"http://{}\"\nformat = \"cloudevents-binary\"\nsource = \"shop\"", receiver.address));
    assert!(handler.deliver(&Notification::sample("a b\"%é\n", "{}")).await.is_delivered());
    let (head, _) = receiver.requests().remove(0);
    for name in ["ce-type", "webhook-event-type"] {
        assert_eq!(text(&head, name), "a%20b%22%25%C3%A9%0A", "{name}");
    }
    assert_eq!(text(&head, "ce-source"), "shop");
}

#[tokio::test]
async fn configured_headers_and_the_users_of_the_url_are_sent() {
    let receiver = Receiver::accepting().await;
    let toml = format!("url = \"http://u%20ser:p@{}/\"\nheaders = {{ X-Tenant = \"blue\" }}", receiver.address);
    assert!(webhook(&toml).deliver(&sample()).await.is_delivered());
    let (head, _) = receiver.requests().remove(0);
    assert_eq!((text(&head, "authorization").as_str(), text(&head, "x-tenant").as_str()), ("Basic dSBzZXI6cA==", "blue"));
}

#[tokio::test]
async fn deliveries_share_a_connection() {
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let address = raw(move |mut stream| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            while tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok")
                .await
                .is_ok()
            {
                if read_request(&mut stream).await.is_empty() {
                    break;
                }
            }
        }
    })
    .await;
    let handler = webhook(&format!("url = \"http://{address}\""));
    for _ in 0..20 {
        assert_eq!(handler.deliver(&sample()).await, Verdict::delivered().with_status(202));
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn redirects_are_not_followed_and_only_their_host_is_named() {
    let target = Receiver::accepting().await;
    let receiver = Receiver::start(|head| {
        let location = head.headers["x-target"].clone();
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
    })
    .await;
    let headers = format!("headers = {{ x-target = \"http://{}/path?token=hidden\" }}", target.address);
    let verdict = webhook(&format!("url = \"http://{}\"\n{headers}", receiver.address)).deliver(&sample()).await;
    assert_eq!((verdict.outcome, verdict.reason, verdict.status), (Outcome::HandlerFault, Reason::Redirected, Some(307)));
    assert_eq!(verdict.detail, "redirects to 127.0.0.1; redirects are not followed, change the url");
    assert_eq!((receiver.count(), target.count()), (1, 0));
}

#[tokio::test]
async fn retry_after_is_read_in_both_forms() {
    fn answer(head: &axum::http::request::Parts) -> Response {
        let later = jiff::Timestamp::now() + Duration::from_secs(60);
        let later = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&later).expect("a date");
        match head.uri.path() {
            "/429" => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7".to_owned())]).into_response(),
            "/503" => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, later)]).into_response(),
            _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }
    let receiver = Receiver::start(answer).await;
    for (path, outcome, seconds) in
        [("429", Outcome::BackPressure, 7..=7), ("503", Outcome::BackPressure, 55..=60), ("none", Outcome::Retry, 0..=0)]
    {
        let verdict = webhook(&format!("url = \"http://{}/{path}\"", receiver.address)).deliver(&sample()).await;
        assert_eq!(verdict.outcome, outcome, "{path}");
        assert!(seconds.contains(&verdict.retry_after.unwrap_or_default().as_secs()), "{path}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_payload_over_the_bound_is_refused_without_sending() {
    let receiver = Receiver::accepting().await;
    let handler = webhook(&format!("url = \"http://{}\"", receiver.address));
    let verdict = handler.deliver(&Notification::sample("t", &format!("\"{}\"", "x".repeat(10_000_000)))).await;
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::TooLarge));
    assert_eq!(verdict.detail, "the payload has 10000002 bytes, max_payload is 1MiB");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_forbidden_address_is_never_connected_to() {
    let receiver = Receiver::accepting().await;
    let port = receiver.address.port();
    for handler in [
        webhook("url = \"http://169.254.169.254/\""),
        webhook("url = \"http://0xA9FEA9FE/\""),
        webhook("url = \"http://[::ffff:169.254.169.254]/\""),
        webhook_resolving("url = \"http://metadata.test/\"", &["169.254.169.254", "fd00:ec2::254"]),
        webhook(&format!("url = \"http://127.0.0.1:{port}/\"\negress = \"public\"")),
        webhook(&format!("url = \"http://localhost:{port}/\"\negress = \"public\"")),
    ] {
        let verdict = handler.deliver(&sample()).await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::HandlerFault, Reason::EgressBlocked), "{handler:?} {verdict:?}");
        assert!(handler.probe().await.is_err_and(|text| text.contains("egress")), "{handler:?}");
    }
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn an_allowed_address_beside_a_forbidden_one_is_used() {
    let receiver = Receiver::accepting().await;
    let toml = format!("url = \"http://shop.test:{}/\"", receiver.address.port());
    assert!(webhook_resolving(&toml, &["169.254.169.254", "127.0.0.1"]).deliver(&sample()).await.is_delivered());
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_retried() {
    let handler = webhook_resolving("url = \"http://nowhere.test/?key=hidden\"", &[]);
    let verdict = handler.deliver(&sample()).await;
    assert_eq!(verdict, Verdict::retry(Reason::Dns, "nowhere.test:80: no such name"));
    assert_eq!(handler.probe().await, Err("could not connect: nowhere.test:80: no such name".to_owned()));
}

#[tokio::test]
async fn nothing_secret_is_in_a_verdict_or_in_debug() {
    // An endpoint that answers with all it was sent, as debugging endpoints do.
    let receiver =
        Receiver::start(|head| (StatusCode::BAD_REQUEST, format!("{} {:?}", head.uri, head.headers)).into_response()).await;
    let toml = |address: &str| {
        format!(
            "url = \"http://user:passw0rd@{address}/in?key=query-s3cret\"\nsecrets = [\"{SECRET}\"]\n\
             headers = {{ authorization = \"Bearer t0ken-of-ours\", x-api-key = \"api-key-of-ours\" }}"
        )
    };
    let refused = webhook(&toml("127.0.0.1:1"));
    let echoed = webhook(&toml(&receiver.address.to_string()));
    for handler in [&refused, &echoed] {
        let shown = format!("{:?} {handler:?} {:?} {:?}", handler.deliver(&sample()).await, handler.headers, handler.probe().await);
        for secret in ["passw0rd", "query-s3cret", "t0ken-of-ours", "api-key-of-ours", &SECRET[6..]] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    assert!(echoed.deliver(&sample()).await.detail.contains("***"));
}

#[tokio::test]
async fn a_probe_connects_and_sends_nothing() {
    let receiver = Receiver::accepting().await;
    let handler = webhook(&format!("url = \"http://{}\"", receiver.address));
    assert_eq!(handler.probe().await, Ok(format!("connected to {}", receiver.address)));
    assert_eq!(receiver.count(), 0);
    let refused = webhook("url = \"http://127.0.0.1:1\"").probe().await.expect_err("nobody listens");
    assert!(refused.starts_with("could not connect: 127.0.0.1:1: Connection refused"), "{refused}");
}

#[test]
fn every_mistake_is_reported_without_its_secret() {
    let mistakes = mistakes_of(
        "url = \"ftp://user:passw0rd@host\"\nsecrets = [\"whsec_c2hvcnQ=\"]\nsource = \"a b\"\nrequest_timeout = \"0s\"\nca = \"x\"\n\
         [headers]\nContent-Length = \"1\"\nwebhook-id = \"x\"\nce-id = \"x\"\n\"a b\" = \"x\"\nx-key = \"line\\nbreak-s3cret\"",
    );
    assert_eq!(
        mistakes,
        [
            "handlers.test.url: got the scheme \"ftp\", expected an http or https URL such as \"https://example.org/events\"",
            "handlers.test.secrets: number 1 is not a signing secret, expected \"whsec_\" and the base64 of 24 to 64 bytes",
            "handlers.test.headers.Content-Length: is written by outboxd itself and cannot be set",
            "handlers.test.headers.a b: is not the name of a header",
            "handlers.test.headers.ce-id: is written by outboxd itself and cannot be set",
            "handlers.test.headers.webhook-id: is written by outboxd itself and cannot be set",
            "handlers.test.headers.x-key: got a value that no header can have, expected one line of text",
            "handlers.test.source: got \"a b\", expected a URI reference such as \"https://example.org/shop\" or \"shop\"",
            "handlers.test.request_timeout: got no time at all, expected a duration such as \"15s\"",
            "handlers.test.ca: expected certificates in PEM (\"-----BEGIN CERTIFICATE-----\")",
        ]
    );
    assert_eq!(mistakes_of("url = \"example.org/x\"").len(), 1);
    assert_eq!(mistakes_of("url = \"\"").len(), 1);
    assert_eq!(mistakes_of("").len(), 1);
}

#[test]
fn the_example_is_free_of_mistakes() {
    let mut example: toml::Table = KIND.example.replace("${BILLING_WEBHOOK_SECRET}", SECRET).parse().expect("TOML");
    let mut entry = example.remove("handlers").and_then(|list| list.as_array()?.first()?.as_table().cloned()).expect("one entry");
    for common in ["name", "kind", "events"] {
        entry.remove(common).expect("every example has it");
    }
    assert_eq!(mistakes_of(&entry.to_string()), [""; 0]);
}
