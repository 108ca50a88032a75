//! What every kind must do, and what each sends: against a receiver that answers with the codes that its service documents.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use toml::Table;

use super::*;
use crate::domain::Timestamp;
use crate::domain::alerts::{Alert, AlertKind, AlertStatus, Change, Notice, Severity};
use crate::settings::Mistakes;

/// Takes one request per connection and answers with the next of these; remembers head and body.
struct Server {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    async fn answering(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let requests: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let mut text = Vec::new();
                let (head, length) = loop {
                    let mut buffer = [0; 4096];
                    let bytes = stream.read(&mut buffer).await.expect("the client sends");
                    text.extend_from_slice(&buffer[..bytes]);
                    let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "))
                        .map_or(0, |n| n.parse().expect("a number"));
                    if text.len() >= end + 4 + length {
                        break (head, length);
                    }
                };
                let body = serde_json::from_slice(&text[text.len() - length..]).unwrap_or(Value::Null);
                seen.lock().expect("nobody panics here").push((head, body));
                let close = "connection: close\r\ncontent-length: ";
                let (status, text) = answer.split_once('|').unwrap_or((answer, ""));
                let answer = format!("HTTP/1.1 {status}\r\n{close}{}\r\n\r\n{text}", text.len());
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().expect("nobody panics here").clone()
    }
}

fn build(kind: &str, settings: &str) -> Arc<dyn Channel> {
    let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
    let kind = channel_kind(kind).expect("there is such a kind");
    let built = (kind.build)(&Section::open("alerts.channels.ops", &table, kind.fields, &[], &mistakes));
    built.unwrap_or_else(|| panic!("{:?}", mistakes.into_vec()))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn notice(change: Change) -> Notice {
    let status = match change {
        Change::Resolved => AlertStatus::Resolved,
        Change::Acknowledged => AlertStatus::Acknowledged,
        _ => AlertStatus::Firing,
    };
    let alert = Alert { status, changed_at: at(1_700_000_100), ..Alert::example(at(1_700_000_000)) };
    Notice { change, alert, thread: (change != Change::Fired).then(|| "first".to_owned()) }
}

fn notices(changes: &[Change]) -> Notices {
    Notices {
        id: "abc".to_owned(),
        relay: "orders".to_owned(),
        external_url: Some("https://relay.example.org/".to_owned()),
        at: at(1_700_000_110),
        notices: changes.iter().map(|change| notice(*change)).collect(),
    }
}

#[test]
fn every_kind_is_named_once_and_shows_an_example_of_itself() {
    for kind in CHANNELS {
        assert_eq!(CHANNELS.iter().filter(|other| other.name == kind.name).count(), 1, "{}", kind.name);
        assert!(kind.example.contains(&format!("kind = \"{}\"", kind.name)), "{}", kind.name);
    }
}

#[tokio::test]
async fn alertmanager_gets_ends_ahead_while_it_fires_and_the_end_when_it_is_over() {
    let server = Server::answering(&["200 OK", "200 OK"]).await;
    let channel = build("alertmanager", &format!("urls = [\"http://{}/am/\"]\nlabels = {{ team = \"x\" }}", server.address));
    assert_eq!(channel.refresh(), Some(Duration::from_secs(60)));
    channel.send(&notices(&[Change::Fired])).await.expect("it is taken");
    channel.send(&notices(&[Change::Resolved])).await.expect("it is taken");
    let requests = server.requests();
    assert!(requests[0].0.starts_with("post /am/api/v2/alerts "), "{}", requests[0].0);
    let (firing, over) = (&requests[0].1[0], &requests[1].1[0]);
    assert_eq!(
        firing["labels"],
        json!({ "alertname": "OutboxDeadLetters", "severity": "critical", "service": "outboxd", "relay": "orders",
                "handler": "billing", "team": "x" })
    );
    assert_eq!(firing["labels"], over["labels"], "what changes is not among the labels");
    assert_eq!(
        (&firing["startsAt"], &firing["endsAt"]),
        (&json!("2023-11-14T22:13:20.000000Z"), &json!("2023-11-14T22:19:10.000000Z"))
    );
    assert_eq!(over["endsAt"], json!("2023-11-14T22:15:00.000000Z"));
    assert_eq!(firing["generatorURL"], json!("https://relay.example.org/"));
    assert_eq!(firing["annotations"]["command"], json!("outboxd dead-letters list --handler billing"));
}

#[tokio::test]
async fn a_worse_severity_ends_the_milder_alert_in_alertmanager() {
    let server = Server::answering(&["200 OK"]).await;
    let channel = build("alertmanager", &format!("urls = [\"http://{}\"]", server.address));
    let mut worse = notices(&[Change::Raised]);
    worse.notices[0].alert.kind = AlertKind::BacklogAge;
    channel.send(&worse).await.expect("it is taken");
    let body = &server.requests()[0].1;
    let ends: Vec<(&Value, bool)> = body
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (&entry["labels"]["severity"], entry["endsAt"].as_str() < Some("2023-11-14T22:15:10")))
        .collect();
    assert_eq!(ends, [(&json!("critical"), false), (&json!("info"), true), (&json!("warning"), true)]);
}

#[tokio::test]
async fn one_alertmanager_of_a_cluster_is_enough() {
    let server = Server::answering(&["200 OK"]).await;
    let channel = build("alertmanager", &format!("urls = [\"http://127.0.0.1:1\", \"http://{}\"]", server.address));
    channel.send(&notices(&[Change::Fired])).await.expect("one has taken it");
    let nobody = build("alertmanager", "urls = [\"http://127.0.0.1:1\"]");
    assert!(nobody.send(&notices(&[Change::Fired])).await.is_err_and(|failure| !failure.is_permanent));
}

#[tokio::test]
async fn pagerduty_gets_trigger_acknowledge_and_resolve_under_one_key() {
    let server = Server::answering(&["202 Accepted", "202 Accepted", "202 Accepted"]).await;
    let channel = build("pagerduty", &format!("url = \"http://{}\"\nrouting_key = \"key-of-32-characters\"", server.address));
    assert!(channel.wants_acknowledgements() && channel.most_alerts() == 1);
    for change in [Change::Fired, Change::Acknowledged, Change::Resolved] {
        channel.send(&notices(&[change])).await.expect("it is taken");
    }
    let requests = server.requests();
    assert!(requests[0].0.starts_with("post /v2/enqueue "));
    let trigger = &requests[0].1;
    assert_eq!(trigger["payload"]["summary"], json!("orders/billing: 3 dead letters"));
    assert_eq!((&trigger["payload"]["severity"], &trigger["payload"]["class"]), (&json!("critical"), &json!("dead_letters")));
    assert_eq!(trigger["payload"]["custom_details"]["last_error"], json!("server_error (500): the receiver is on fire"));
    for (request, action) in requests.iter().zip(["trigger", "acknowledge", "resolve"]) {
        assert_eq!(request.1["event_action"], json!(action));
        assert_eq!(request.1["dedup_key"], json!("orders/dead_letters/billing"));
        assert_eq!(request.1["routing_key"], json!("key-of-32-characters"));
    }
    assert_eq!(requests[2].1.as_object().map(serde_json::Map::len), Some(3), "a resolve needs nothing else");
}

#[tokio::test]
async fn slack_gets_red_and_green_and_nothing_that_calls_everybody() {
    let server = Server::answering(&["200 OK|ok", "200 OK|ok"]).await;
    let channel = build("slack", &format!("url = \"http://{}/services/T0/B0/secret\"", server.address));
    let mut fired = notices(&[Change::Fired, Change::Resolved]);
    fired.notices[0].alert.sample.as_mut().expect("the example has one").error = Some("<!channel> & co".to_owned());
    channel.send(&fired).await.expect("it is taken");
    let body = &server.requests()[0].1;
    assert_eq!(body["text"], json!("[FIRING:critical] orders: 1 firing, 1 resolved"));
    assert_eq!((&body["attachments"][0]["color"], &body["attachments"][1]["color"]), (&json!("#e01e5a"), &json!("#2eb67d")));
    let text = body["attachments"][0]["blocks"][0]["text"]["text"].as_str().expect("a text");
    assert!(text.contains("*orders/billing: 3 dead letters*") && text.contains("`outboxd dead-letters list --handler billing`"));
    assert!(text.contains("&lt;!channel&gt; &amp; co") && !text.contains("<!channel>"), "{text}");
}

#[tokio::test]
async fn a_webhook_gets_what_alertmanager_would_send_signed() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let server = Server::answering(&["204 No Content"]).await;
    let channel = build("webhook", &format!("url = \"http://{}/x\"\nsecrets = [\"{secret}\"]", server.address));
    channel.send(&notices(&[Change::Fired, Change::Repeated])).await.expect("it is taken");
    let (head, body) = &server.requests()[0];
    assert!(head.contains("webhook-id: alert_abc") && head.contains("webhook-signature: v1,"), "{head}");
    assert_eq!((&body["version"], &body["status"], &body["receiver"]), (&json!("4"), &json!("firing"), &json!("ops")));
    assert_eq!(body["commonLabels"]["handler"], json!("billing"));
    assert_eq!(body["alerts"].as_array().map(Vec::len), Some(2));
    assert_eq!(body["alerts"][0]["annotations"]["sample_type"], json!("order.placed"));
    assert_eq!(body["alerts"][0]["fingerprint"], body["alerts"][1]["fingerprint"]);
}

#[tokio::test]
async fn an_answer_says_whether_another_try_is_worth_it_and_shows_no_secret() {
    let table: [(&str, &'static [&'static str], bool, Option<u64>); 6] = [
        ("slack", &["404 Not Found|no_service"], true, None),
        ("slack", &["410 Gone|channel_is_archived"], true, None),
        ("slack", &["429 Slow Down\r\nretry-after: 30|rate_limited"], false, Some(30)),
        ("slack", &["500 Oops|secret-path and more"], false, None),
        ("pagerduty", &["400 Bad Request|{\"status\":\"invalid event\"}"], true, None),
        ("pagerduty", &["302 Found\r\nlocation: http://elsewhere/"], true, None),
    ];
    for (kind, answer, is_permanent, retry_after) in table {
        let server = Server::answering(answer).await;
        let settings = match kind {
            "slack" => format!("url = \"http://{}/secret-path\"", server.address),
            _ => format!("url = \"http://{}\"\nrouting_key = \"secret-path\"", server.address),
        };
        let failure = build(kind, &settings).send(&notices(&[Change::Fired])).await.expect_err(answer[0]);
        assert_eq!((failure.is_permanent, failure.retry_after), (is_permanent, retry_after.map(Duration::from_secs)), "{answer:?}");
        assert!(failure.text.starts_with("HTTP ") && !failure.text.contains("secret-path"), "{}", failure.text);
    }
    let failure = build("slack", "url = \"http://127.0.0.1:1/secret-path\"").send(&notices(&[Change::Fired])).await;
    assert!(failure.is_err_and(|failure| !failure.is_permanent && !failure.text.contains("secret-path")));
}

#[tokio::test]
async fn a_heartbeat_is_one_get() {
    let server = Server::answering(&["200 OK|ok", "503 Oops"]).await;
    let heartbeat = Heartbeat::new(&crate::settings::Secret::new(format!("http://{}/ping/secret", server.address))).expect("valid");
    heartbeat.beat().await.expect("it is heard");
    assert!(heartbeat.beat().await.is_err());
    assert!(server.requests()[0].0.starts_with("get /ping/secret "));
    assert!(Heartbeat::new(&crate::settings::Secret::new("hunter2")).is_err_and(|error| !error.contains("hunter2")));
}

#[test]
fn severities_are_words_that_every_receiver_knows() {
    assert_eq!(Severity::ALL.iter().map(|severity| severity.as_str()).collect::<Vec<_>>(), ["info", "warning", "critical"]);
}
