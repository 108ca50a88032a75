//! What pages in browsers need: tickets in place of a token, and the headers without which a browser keeps an answer from a page of another origin.

use serde_json::{Value, json};

use super::client::{ALL, Answer, EventStream, Served, ask, request};
use super::wait_for_places;
use crate::support::{Binary, NewRow, TestDatabase};

const SETTINGS: &str = "[feed]\nevents = [\"*\"]\nlisten = \"127.0.0.1:0\"\nheartbeat = \"200ms\"\norigins = [\"https://shop.example\"]\n\
    [[clients]]\nname = \"all\"\ntokens = [\"token-of-all-0123456789\"]\n";
const KEY: &str = "ticket_key = \"a key of thirty-two characters or more\"\n";

fn bearer() -> String {
    format!("Bearer {ALL}")
}

async fn ticket(served: &Served, query: &str) -> String {
    let path = format!("/v1/tickets{query}");
    let made = request(&served.address, "POST", &path, &[("authorization", &bearer())]).await.expect("answered");
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{made:?}");
    made.json()["ticket"].as_str().expect("a ticket").to_owned()
}

async fn with_ticket(served: &Served, ticket: &str, more: &str) -> Answer {
    ask(&served.address, &format!("/v1/feed?ticket={ticket}{more}"), &[]).await.expect("answered")
}

async fn of_two_orders(database: &TestDatabase) {
    let row = |event_type: &str, order: i64| NewRow::new(event_type).of("order", order).payload(json!({ "n": order }));
    database.insert_events([row("order.placed", 1), row("order.placed", 2), row("order.paid", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_stream_and_shows_no_more_than_it_is_bound_to() {
    let database = TestDatabase::create().await;
    of_two_orders(&database).await;
    let (served, binary) = Served::with_metrics(&database, SETTINGS).await;
    wait_for_places(&database, 3).await;
    let free = ticket(&served, "").await;
    let stream = EventStream::open_with(&served.address, &format!("/v1/feed?after=earliest&ticket={free}"), vec![]).await;
    let mut stream = stream.expect("answered").expect("a stream");
    for _ in 0..3 {
        assert!(stream.next_event().await.is_some());
    }
    let again = with_ticket(&served, &free, "").await;
    assert_eq!((again.status, &again.json()["title"]), (401, &json!("The ticket is not good")));

    let subjects = |answer: &Answer| {
        let events: Vec<Value> = serde_json::from_str(&answer.body).expect("a page");
        events.iter().map(|event| format!("{} {}", event["type"].as_str().unwrap_or("-"), event["subject"])).collect::<Vec<_>>()
    };
    let of_one = ticket(&served, "?subject=1").await;
    assert_eq!(subjects(&with_ticket(&served, &of_one, "").await), ["order.placed \"1\"", "order.paid \"1\""]);
    let placed_of_one = ticket(&served, "?subject=1&type=order.placed").await;
    assert_eq!(subjects(&with_ticket(&served, &placed_of_one, "").await), ["order.placed \"1\""]);
    // It cannot be widened, nor can the request say something else beside it.
    for (bounds, more) in [("?subject=1", "&subject=2"), ("?type=order.placed", "&type=*"), ("?subject=1", "&subject=1&subject=2")]
    {
        let bound = ticket(&served, bounds).await;
        assert_eq!(with_ticket(&served, &bound, more).await.status, 400, "{bounds} {more}");
    }
    let typed = ticket(&served, "?subject=1").await;
    assert_eq!(subjects(&with_ticket(&served, &typed, "&type=order.paid").await), ["order.paid \"1\""]);

    for (method, path, authorization, status) in [
        ("POST", "/v1/tickets", None, 401),
        ("POST", "/v1/tickets?limit=5", Some(bearer()), 400),
        ("GET", "/v1/tickets", Some(bearer()), 405),
        ("GET", "/v1/feed?ticket=", None, 401),
        ("GET", "/v1/feed?ticket=e30.e30", None, 401),
        // Tickets are for the feed; and a token that is sent counts, good or not.
        ("GET", "/v1/contracts?ticket=x", None, 401),
        ("GET", "/v1/feed?ticket=x", Some("Bearer nobody".to_owned()), 401),
    ] {
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        assert_eq!(request(&served.address, method, path, &headers).await.expect("answered").status, status, "{method} {path}");
    }
    let metrics = served.metrics().await;
    assert!(metrics.contains("outboxd_feed_requests_total{client=\"all\",answer=\"ticket\"} 7"), "{metrics}");
    drop(binary);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_good_at_every_instance_that_has_the_key() {
    let database = TestDatabase::create().await;
    of_two_orders(&database).await;
    let keyed = SETTINGS.replace("listen", &format!("{KEY}listen"));
    let (one, other) = (Served::start(&database, &keyed).await, Served::start(&database, &keyed).await);
    let stranger = Served::start(&database, SETTINGS).await;
    wait_for_places(&database, 3).await;
    let made = ticket(&one, "").await;
    assert_eq!(with_ticket(&stranger, &made, "").await.status, 401);
    assert_eq!(with_ticket(&other, &made, "").await.ids().len(), 3);
    for served in [one, other, stranger] {
        served.stop().await;
    }
    let short = Binary::relay(database.url(), &keyed.replace("a key of thirty-two characters or more", "hunter2"));
    let told = short.run(&["check"]).await;
    assert!(told.code == Some(64) && told.stderr.contains("feed.ticket_key: has fewer than 32 characters"), "{told:?}");
    assert!(!told.stderr.contains("hunter2"));
    let odd = Binary::relay(database.url(), &SETTINGS.replace("https://shop.example", "https://shop.example/page"));
    let told = odd.run(&["check"]).await;
    assert!(told.code == Some(64) && told.stderr.contains("feed.origins: got \"https://shop.example/page\""), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_listed_origins_may_read_and_no_others() {
    let database = TestDatabase::create().await;
    of_two_orders(&database).await;
    let served = Served::start(&database, SETTINGS).await;
    wait_for_places(&database, 3).await;
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    for (origin, want) in [("https://shop.example", Some("https://shop.example")), ("https://evil.example", None)] {
        let preflight =
            [("origin", origin), ("access-control-request-method", "GET"), ("access-control-request-headers", "authorization")];
        let asked = request(&served.address, "OPTIONS", "/v1/feed", &preflight).await.expect("answered");
        assert_eq!(allowed(&asked).as_deref(), want, "{asked:?}");
        let headers = asked.header("access-control-allow-headers").unwrap_or_default();
        assert!(headers.contains("authorization") && headers.contains("last-event-id"), "{asked:?}");
        let read = ask(&served.address, "/v1/feed", &[("origin", origin), ("authorization", &bearer())]).await.expect("answered");
        assert_eq!((read.status, allowed(&read).as_deref()), (200, want));
        // A failure, too, or the page is not told what is wrong.
        let refused = ask(&served.address, "/v1/feed", &[("origin", origin)]).await.expect("answered");
        assert_eq!((refused.status, allowed(&refused).as_deref()), (401, want));
        let exposed = read.header("access-control-expose-headers").unwrap_or_default();
        assert!(exposed.contains("link") && exposed.contains("etag") && exposed.contains("stream-next-offset"), "{read:?}");
    }
    served.stop().await;
}
