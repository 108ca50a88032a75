//! Several events in one request.

use std::sync::Mutex;

use axum::body::Bytes;
use axum::http::request::Parts;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::domain::Reach;

fn events(count: u128) -> Vec<Notification> {
    let event = |n| Notification { id: Uuid::from_u128(n), seq: n as i64, ..Notification::sample("order.placed", PAYLOAD) };
    (1..=count).map(event).collect()
}

async fn deliver(handler: &Webhook, events: &[Notification]) -> Vec<Verdict> {
    handler.deliver_all(events.iter().collect()).await
}

fn outcomes(verdicts: &[Verdict]) -> Vec<(Outcome, Reason)> {
    verdicts.iter().map(|verdict| (verdict.outcome, verdict.reason)).collect()
}

fn ids(body: &Bytes) -> Vec<u128> {
    let events: Vec<Value> = serde_json::from_slice(body).expect("an array");
    events.iter().map(|event| event["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()).expect("an id").as_u128()).collect()
}

#[tokio::test]
async fn a_batch_is_an_array_with_each_payload_as_it_was_recorded_and_one_signature() {
    let receiver = Receiver::accepting().await;
    let handler = webhook(&format!("url = \"http://{}\"\nbatch = 10\nsecrets = [\"{SECRET}\"]", receiver.address));
    let mut sent = events(3);
    sent[1] = Notification { is_replay: true, attempt: 4, aggregate_version: Some(7), ..sent[1].clone() };
    for _ in 0..2 {
        assert_eq!(deliver(&handler, &sent).await, vec![Verdict::delivered().with_status(200); 3]);
    }
    let [(head, body), (again, _)] = receiver.requests().try_into().expect("two requests");
    assert_eq!(text(&head, "webhook-id"), text(&again, "webhook-id"), "the same events have the same id");
    assert_eq!([text(&head, "webhook-batch"), text(&head, "content-type")], ["3", "application/json"]);
    let timestamp = text(&head, "webhook-timestamp").parse().expect("seconds");
    assert!(verify(&[Secret::new(SECRET)], &text(&head, "webhook-id"), timestamp, &body, &text(&head, "webhook-signature")));
    let written = String::from_utf8(body.to_vec()).expect("UTF-8");
    assert_eq!(written.matches(&format!(",\"data\":{PAYLOAD}}}")).count(), 3, "{written}");
    let parsed: Vec<Value> = serde_json::from_str(&written).expect("an array");
    let want = json!({ "id": sent[1].id, "type": "order.placed", "time": "2023-11-14T22:13:20.000000Z", "aggregate_type": "order",
        "aggregate_id": "42", "aggregate_version": 7, "attempt": 4, "replay": true, "data": parsed[1]["data"] });
    assert_eq!(parsed[1], want);
}

#[tokio::test]
async fn a_batch_of_cloud_events_is_one_of_the_specification() {
    let receiver = Receiver::accepting().await;
    let toml = format!("url = \"http://{}\"\nbatch = 10\nformat = \"cloudevents-structured\"\nsource = \"shop\"", receiver.address);
    let handler = webhook(&toml);
    assert!(deliver(&handler, &events(2)).await.iter().all(Verdict::is_delivered));
    // Alone as well: a receiver need not tell the two apart.
    assert!(handler.deliver(&events(1)[0]).await.is_delivered());
    for ((head, body), count) in receiver.requests().iter().zip([2, 1]) {
        assert_eq!(text(head, "content-type"), "application/cloudevents-batch+json");
        let parsed: Vec<Value> = serde_json::from_slice(body).expect("an array");
        assert_eq!(parsed.len(), count);
        assert!(parsed.iter().all(|event| event["specversion"] == "1.0" && event["source"] == "shop"), "{parsed:?}");
    }
}

#[tokio::test]
async fn a_207_has_a_verdict_for_each() {
    let answer = |_: &Parts, body: &Bytes| {
        let ids = ids(body).into_iter().map(Uuid::from_u128).collect::<Vec<_>>();
        let results = json!([
            { "id": ids[0], "status": 200 },
            { "id": ids[1], "status": 422, "detail": "no such customer", "more": [1] },
            { "id": ids[2], "status": 500 },
            { "id": ids[3], "status": 429, "retry_after": 7.5 },
            { "id": ids[4], "status": 200 },
            { "id": ids[4], "status": 500 },
            { "id": ids[5], "status": 207 },
            { "id": Uuid::from_u128(99), "status": 500 },
            { "id": ids[7], "status": 401 },
        ]);
        (StatusCode::MULTI_STATUS, json!({ "results": results }).to_string()).into_response()
    };
    let receiver = Receiver::reading(answer).await;
    let verdicts = deliver(&webhook(&format!("url = \"http://{}\"\nbatch = 8", receiver.address)), &events(8)).await;
    let unclear = (Outcome::Retry, Reason::InvalidAnswer);
    let want = [
        (Outcome::Delivered, Reason::Ok),
        (Outcome::Permanent, Reason::ClientError),
        (Outcome::Retry, Reason::ServerError),
        (Outcome::BackPressure, Reason::Throttled),
        unclear,
        unclear,
        unclear,
        (Outcome::HandlerFault, Reason::Unauthorized),
    ];
    assert_eq!(outcomes(&verdicts), want);
    assert_eq!((verdicts[1].detail.as_str(), verdicts[1].status), ("no such customer", Some(422)));
    assert_eq!(verdicts[3].retry_after, Some(Duration::from_millis(7_500)));
    assert!(verdicts.iter().all(|verdict| verdict.reach == Reach::Unknown), "each was judged itself");
    assert!(verdicts[4..7].iter().all(|verdict| verdict.ambiguous), "{verdicts:?}");
}

/// Rounds as the relay makes them while nothing is spent: whose verdict is about another one goes out again.
async fn settle(handler: &Webhook, mut open: Vec<Notification>) -> Vec<(u128, Verdict)> {
    let mut settled = Vec::new();
    for _ in 0..=3 {
        let verdicts = deliver(handler, &open).await;
        let (again, done): (Vec<_>, Vec<_>) =
            open.into_iter().zip(verdicts).partition(|(_, verdict)| verdict.reach == Reach::Another);
        settled.extend(done.into_iter().map(|(event, verdict)| (event.id.as_u128(), verdict)));
        open = again.into_iter().map(|(event, _)| event).collect();
    }
    assert!(open.is_empty(), "the relay excuses an event three times, and {} are left", open.len());
    settled.sort_by_key(|(id, _)| *id);
    settled
}

/// One event, of a hundred, for which the receiver refuses the whole request or fails over it.
#[tokio::test]
async fn one_bad_event_costs_the_others_nothing() {
    for (status, batch, want) in [
        (StatusCode::BAD_REQUEST, 100, Outcome::Permanent),
        (StatusCode::PAYLOAD_TOO_LARGE, 7, Outcome::Permanent),
        (StatusCode::INTERNAL_SERVER_ERROR, 1_000, Outcome::Retry),
        (StatusCode::CONFLICT, 2, Outcome::Retry),
    ] {
        let bad = move |_: &Parts, body: &Bytes| if ids(body).contains(&42) { status.into_response() } else { Response::default() };
        let receiver = Receiver::reading(bad).await;
        let handler = webhook(&format!("url = \"http://{}\"\nbatch = {batch}", receiver.address));
        for (id, verdict) in settle(&handler, events(100)).await {
            if id == 42 {
                assert_eq!((verdict.outcome, verdict.status), (want, Some(status.as_u16())));
            } else {
                assert!(verdict.is_delivered(), "{status} {id}: {verdict:?}");
            }
        }
        assert!(receiver.count() < 100, "{status}: {} requests", receiver.count());
        // Still in doubt is only what failed alone, and it stays alone.
        let before = receiver.count();
        deliver(&handler, &events(100)).await;
        let sizes: Vec<usize> = receiver.requests()[before..].iter().map(|(_, body)| ids(body).len()).collect();
        let alone = sizes.iter().filter(|size| **size == 1).count();
        assert!(want == Outcome::Permanent || alone >= 1, "{status}: {sizes:?}");
    }
}

#[tokio::test]
async fn trouble_of_the_receiver_is_that_of_all() {
    for (answer, want) in [
        (StatusCode::UNAUTHORIZED, (Outcome::HandlerFault, Reason::Unauthorized)),
        (StatusCode::TOO_MANY_REQUESTS, (Outcome::BackPressure, Reason::Throttled)),
        (StatusCode::FOUND, (Outcome::HandlerFault, Reason::Redirected)),
    ] {
        let receiver = Receiver::reading(move |_, _| answer.into_response()).await;
        let verdicts = deliver(&webhook(&format!("url = \"http://{}\"\nbatch = 10", receiver.address)), &events(5)).await;
        assert_eq!(outcomes(&verdicts), [want; 5]);
        assert_eq!((receiver.count(), verdicts[0].reach), (1, Reach::Unknown));
    }
    let verdicts = deliver(&webhook("url = \"http://127.0.0.1:1\"\nbatch = 10"), &events(5)).await;
    assert_eq!(outcomes(&verdicts), [(Outcome::Retry, Reason::ConnectionRefused); 5]);
    assert!(verdicts.iter().all(|verdict| verdict.reach != Reach::Another), "{verdicts:?}");
}

#[tokio::test]
async fn a_207_that_says_nothing_is_no_success() {
    for body in ["", "{}", "[]", "{\"results\":{}}", "{\"results\":[{\"id\":1}]}", "not json"] {
        let receiver = Receiver::reading(move |_, _| (StatusCode::MULTI_STATUS, body).into_response()).await;
        let handler = webhook(&format!("url = \"http://{}\"\nbatch = 10", receiver.address));
        let settled = settle(&handler, events(3)).await;
        assert!(settled.iter().all(|(_, verdict)| verdict.outcome == Outcome::Retry && verdict.ambiguous), "{body}: {settled:?}");
    }
}

#[tokio::test]
async fn a_request_holds_no_more_than_it_may() {
    let receiver = Receiver::accepting().await;
    let handler =
        webhook(&format!("url = \"http://{}\"\nbatch = 10\nbatch_bytes = \"10KiB\"\nmax_payload = \"50KiB\"", receiver.address));
    let mut sent = events(25);
    for (place, size) in [(3, 9_000), (4, 9_000), (5, 40_000), (6, 60_000)] {
        sent[place].payload = format!("\"{}\"", "x".repeat(size));
    }
    let verdicts = deliver(&handler, &sent).await;
    for (place, verdict) in verdicts.iter().enumerate() {
        let want = if place == 6 { (Outcome::Permanent, Reason::TooLarge) } else { (Outcome::Delivered, Reason::Ok) };
        assert_eq!((verdict.outcome, verdict.reason), want, "{place}");
    }
    let requests = receiver.requests();
    let mut arrived: Vec<u128> = requests.iter().flat_map(|(_, body)| ids(body)).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, (1..=25).filter(|id| *id != 7).collect::<Vec<_>>());
    for (_, body) in &requests {
        let count = ids(body).len();
        assert!(count <= 10 && (count == 1 || body.len() <= 10 * 1_024), "{count} events in {} bytes", body.len());
    }
}

/// An answer that comes after the time is over leaves nobody spent on behalf of others.
#[tokio::test]
async fn a_receiver_that_hangs_over_one_event_is_found_out() {
    let hanging = Arc::new(Mutex::new(0));
    let address = {
        let hanging = Arc::clone(&hanging);
        raw(move |mut stream| {
            *hanging.lock().expect("not poisoned") += 1;
            async move {
                tokio::io::AsyncReadExt::read_u8(&mut stream).await.ok();
            }
        })
        .await
    };
    let handler = webhook(&format!("url = \"http://{address}\"\nbatch = 10\nrequest_timeout = \"100ms\""));
    let verdicts = deliver(&handler, &events(4)).await;
    assert_eq!(outcomes(&verdicts), [(Outcome::Retry, Reason::Timeout); 4]);
    assert!(verdicts.iter().all(|verdict| verdict.reach == Reach::Another && verdict.ambiguous));
    let settled = settle(&handler, events(4)).await;
    assert!(settled.iter().all(|(_, verdict)| verdict.reason == Reason::Timeout && verdict.reach == Reach::Unknown));
    assert!(*hanging.lock().expect("not poisoned") >= 1 + 2 + 3);
}

#[test]
fn what_a_batch_cannot_have_is_a_mistake() {
    let url = "url = \"http://x\"\n";
    assert_eq!(mistakes_of(&format!("{url}batch = 1\nformat = \"cloudevents-binary\"\nforward_headers = [\"tenant\"]")), [""; 0]);
    assert_eq!(
        mistakes_of(&format!(
            "{url}batch = 2\nformat = \"cloudevents-binary\"\nbatch_wait = \"1m\"\nheaders = {{ x-tenant = \"{{header:tenant}}\" }}"
        )),
        [
            "handlers.test.batch: several CloudEvents have no binary form; set format = \"cloudevents-structured\" or \"plain\"",
            "handlers.test.batch: a request of several events has no header of one of them; remove the templates and forward_headers",
            "handlers.test.batch_wait: got more than 10 s, expected at most \"10s\"",
        ]
    );
    assert_eq!(mistakes_of(&format!("{url}batch = 2\nforward_headers = [\"tenant\"]")).len(), 1);
}
