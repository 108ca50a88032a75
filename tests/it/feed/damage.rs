//! Events of the feed whose bytes a fault of the disk has taken: whoever may see one is told that it cannot be had, and goes on.

use serde_json::{Value, json};

use super::client::{Answer, EventStream, FEED, Served, ask};
use super::wait_for_places;
use crate::support::{Brittle, TestDatabase};

const ACME: &str = "token-of-acme-012345678";
const SETTINGS: &str =
    "[[clients]]\nname = \"acme\"\ntokens = [\"token-of-acme-012345678\"]\nwhere_headers = { tenant = \"acme\" }\n";

/// Numbers of the events of a page, and `-1` for one that cannot be had.
fn numbers(answer: &Answer) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json().as_array().expect("a batch").iter().map(number).collect()
}

fn number(event: &Value) -> i64 {
    if event["type"] == "outboxd.unavailable" {
        assert_eq!((&event["data"]["type"], &event["data"]["reason"]), (&json!("order.placed"), &json!("unreadable")), "{event}");
        assert!(!event.to_string().contains("toast"), "nothing of the database is told: {event}");
        return -1;
    }
    event["data"]["n"].as_i64().expect("a number")
}

async fn read_all(served: &Served, token: &str, query: &str) -> Vec<i64> {
    let (mut path, mut found) = (format!("/v1/feed?{query}"), Vec::new());
    loop {
        let page = ask(&served.address, &path, &[("authorization", &format!("Bearer {token}"))]).await.expect("the feed answers");
        found.extend(numbers(&page));
        if page.header("stream-up-to-date").is_some() {
            return found;
        }
        path = page.next();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_see_a_damaged_event_is_told_and_goes_on() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, &[FEED, SETTINGS].concat()).await;
    let all = super::client::ALL;
    let tenant = |n: usize| json!({ "tenant": if n.is_multiple_of(2) { "acme" } else { "other" } });
    let mut events = Vec::new();
    for n in 0..12 {
        events.push(Brittle::insert(&database, n, &n.to_string(), tenant(n)).await);
    }
    wait_for_places(&database, 12).await;
    // Next to one another, the first, the last; of 4 the payload is whole, but nobody can tell for whom it is.
    for n in [0, 1, 6, 7, 11] {
        events[n].lose_payload(&database).await;
    }
    events[4].lose_headers(&database).await;
    let everything = [-1, -1, 2, 3, -1, 5, -1, -1, 8, 9, 10, -1];
    let of_acme = [-1, 2, -1, 8, 10];
    for limit in ["", "limit=1", "limit=3", "limit=5&type=order.*"] {
        assert_eq!(read_all(&served, all, limit).await, everything, "{limit}");
        assert_eq!(read_all(&served, ACME, limit).await, of_acme, "{limit}");
    }
    assert_eq!(read_all(&served, all, "subject=7").await, [-1]);
    let after = format!("after={}", events[4].id);
    assert_eq!(read_all(&served, all, &after).await, everything[5..]);
    let unknown = ask(&served.address, &format!("/v1/feed?{after}"), &[("authorization", &format!("Bearer {ACME}"))]).await;
    assert_ne!(unknown.expect("the feed answers").status, 200, "whether it may see that event cannot be told");

    // A stream catches up over them, and meets one that breaks while it listens: read from memory, or read again as damaged.
    let mut stream = EventStream::open(&served.address, "/v1/feed", all, None).await.expect("connected").expect("a stream");
    let mut seen = Vec::new();
    while seen.len() < everything.len() {
        let event = stream.next_event().await.expect("an event");
        seen.push(number(&serde_json::from_str(&event.data).expect("JSON")));
    }
    assert_eq!(seen, everything);
    for n in 12..16 {
        events.push(Brittle::insert(&database, n, &n.to_string(), tenant(n)).await);
        let event = stream.next_event().await.expect("the stream goes on");
        assert_eq!(number(&serde_json::from_str(&event.data).expect("JSON")), n as i64);
        events[n].lose_payload(&database).await;
    }
    assert_eq!(read_all(&served, all, "limit=2").await, [&everything[..], &[-1; 4]].concat());
    served.running.wait_for_output("an event cannot be shown to clients of the feed").await;
    served.stop().await;
}

/// Whether an event is a correction stands in its headers. Where these are lost it gets a place, like all beside it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_headers_are_lost_before_it_has_a_place_keeps_nothing_back() {
    let database = TestDatabase::create().await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(Brittle::insert(&database, n, &n.to_string(), json!({})).await);
    }
    events[1].lose_headers(&database).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 3).await;
    assert_eq!(read_all(&served, super::client::ALL, "").await, [0, -1, 2]);
    served.stop().await;
}

/// A window of more than 10,000 events is published by pages.
#[tokio::test(flavor = "multi_thread")]
async fn a_correction_gets_no_place_in_a_large_window_either() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "insert into outbox.events (type, payload, headers)
             select 'order.placed', '{}', case when n = 5000 then '{\"outboxd-only-for\": \"billing\"}' else '{}' end::jsonb
               from generate_series(1, 10002) n",
        )
        .await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 10_001).await;
    let given: i64 = sqlx::query_scalar(
        "select count(*) from outbox.feed f join outbox.events e using (seq) where e.headers ? 'outboxd-only-for'",
    )
    .fetch_one(database.pool())
    .await
    .expect("the places");
    assert_eq!(given, 0);
    served.stop().await;
}
