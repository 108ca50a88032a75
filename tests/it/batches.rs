//! Several events in one request of a webhook: order, verdicts and dead letters are those of single requests.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::support::{Answer, Binary, NewRow, Received, Receiver, TestDatabase, eventually};

const KEYS: usize = 40;

/// Events of a request as `(key, n)`.
fn numbers(request: &Received) -> Vec<(u64, u64)> {
    let events: Vec<Value> = serde_json::from_slice(request.body()).expect("an array");
    events
        .iter()
        .map(|event| (event["data"]["key"].as_u64().expect("a key"), event["data"]["n"].as_u64().expect("a number")))
        .collect()
}

fn event(number: usize) -> NewRow {
    NewRow::new("order.placed").of("order", number % KEYS).payload(json!({ "key": number % KEYS, "n": number }))
}

fn entry(receiver: &Receiver, settings: &str) -> String {
    format!(
        "[[handlers]]\nname = \"batch\"\nkind = \"webhook\"\nurl = \"{}\"\nbatch = 20\nconcurrency = 40\n\
         retry = {{ max_attempts = 10, base = \"20ms\", max_delay = \"50ms\" }}\n{settings}",
        receiver.url()
    )
}

/// The receiver answers 207: every seventh event is refused once, one of each key for good; and now and then fails altogether.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_batch_keep_their_order_their_verdicts_and_their_attempts() {
    const EVENTS: usize = 800;
    let database = TestDatabase::create().await;
    let taken: &'static Mutex<HashMap<u64, Vec<u64>>> = Box::leak(Box::default());
    let seen: &'static Mutex<HashMap<u64, usize>> = Box::leak(Box::default());
    let requests: &'static Mutex<usize> = Box::leak(Box::default());
    let receiver = Receiver::answering(move |request| {
        let mut count = requests.lock().expect("nobody panics");
        *count += 1;
        if count.is_multiple_of(9) {
            return Answer::status(500);
        }
        let events: Vec<Value> = serde_json::from_slice(request.body()).expect("an array");
        let results: Vec<Value> = events
            .iter()
            .map(|event| {
                let (key, n) = (event["data"]["key"].as_u64().expect("a key"), event["data"]["n"].as_u64().expect("a number"));
                let tries = seen.lock().expect("nobody panics").entry(n).and_modify(|tries| *tries += 1).or_insert(1).to_owned();
                let status = match n {
                    n if n / KEYS as u64 == 5 => 422,
                    n if n % 7 == 0 && tries == 1 => 503,
                    _ => 200,
                };
                if status == 200 {
                    taken.lock().expect("nobody panics").entry(key).or_default().push(n);
                }
                json!({ "id": event["id"], "status": status, "detail": format!("said of {n}") })
            })
            .collect();
        Answer::status(207).body(json!({ "results": results }).to_string())
    })
    .await;
    let running = Binary::relay(database.url(), &entry(&receiver, "")).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    database.insert_events((0..EVENTS).map(event)).await;
    let open = "deliveries where state not in ('delivered', 'dead')";
    eventually("all are delivered or dead", || async {
        (database.count("deliveries").await == EVENTS as i64 && database.count(open).await == 0).then_some(())
    })
    .await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));

    assert_eq!(database.count("deliveries where state = 'dead' and detail like 'said of %'").await, KEYS as i64);
    assert_eq!(database.count("deliveries where state = 'dead' and attempts > 8").await, 0, "a shared failure spends nothing");
    let taken = taken.lock().expect("nobody panics");
    for (key, numbers) in taken.iter() {
        let want: Vec<u64> = (0..EVENTS as u64).filter(|n| n % KEYS as u64 == *key && n / KEYS as u64 != 5).collect();
        assert_eq!(numbers, &want, "key {key}");
    }
    assert_eq!(taken.len(), KEYS);
    let received = receiver.received();
    assert!(received.len() < EVENTS / 2, "{} requests for {EVENTS} events", received.len());
    for request in &received {
        let mut keys: Vec<u64> = numbers(request).iter().map(|(key, _)| *key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert!(count <= 20 && keys.len() == count, "a request of {count} events has {} keys", keys.len());
    }
}

/// A receiver that refuses every request in which one certain event is: that event alone becomes a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_spoils_every_request_becomes_a_dead_letter_alone() {
    for status in [400, 500] {
        let database = TestDatabase::create().await;
        let receiver = Receiver::answering(move |request| {
            let is_spoiled = numbers(request).iter().any(|(_, n)| *n == 77);
            if is_spoiled { Answer::status(status).body("one of them is wrong") } else { Answer::ok() }
        })
        .await;
        let running = Binary::relay(database.url(), &entry(&receiver, "record = \"all\"\n")).spawn(&["run"]);
        running.wait_for_output("relay started").await;
        database.insert_events((0..200).map(event)).await;
        let dead = "deliveries where state = 'dead'";
        eventually("one is dead", || async { (database.count(dead).await == 1).then_some(()) }).await;
        eventually("the others are delivered", || async {
            (database.count("deliveries where state = 'delivered' and attempts = 1").await == 199).then_some(())
        })
        .await;
        running.terminate();
        assert_eq!(running.finish().await.code, Some(0));
        let wrong = "deliveries d join events e using (seq) where d.state = 'dead' and e.payload::jsonb ->> 'n' <> '77'";
        assert_eq!(database.count(wrong).await, 0, "{status}");
    }
}
