//! Sealed cursors: what clients are given shows no place, on no road, and what they made up is refused.

use serde_json::json;

use super::client::{ALL, Answer, EventStream, FEED, Served};
use super::pages::{REMOVE_SEVEN, order};
use super::wait_for_places;
use crate::hub::raw::{HANDSHAKE, SUBSCRIBE, Socket, send};
use crate::support::{Binary, TestDatabase};

const KEY: &str = "a key of the cursors, which all instances have";
const NEXT: &str = "the key that comes after it, at all instances";

/// The feed in this form, with these keys, a hub, and a cursor at the server.
fn settings(form: &str, keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    let feed = format!("[feed]\ncursors = \"{form}\"\ncursor_keys = [{}]\n", keys.join(", "));
    let client = "max_connections = 100\ncursors = [\"main\"]\n";
    format!("[hub]\npath = \"/hubs/events\"\n{}", FEED.replace("[feed]\n", &feed).replace("max_connections = 100\n", client))
}

fn is_sealed(text: &str) -> bool {
    text.len() == 59 && !text.contains('.')
}

/// What is shown to a client must not hold a place: sixteen digits, most of them zeros.
fn shows_no_place(answer: &Answer) {
    let all = format!("{:?} {}", answer.headers, answer.body);
    assert!(!all.contains("00000000"), "{all}");
}

fn refusal(answer: &Answer) -> (u16, String) {
    let told = answer.json();
    assert!(told.get("lost").is_none() && told.get("gone").is_none(), "{told}");
    (answer.status, told["type"].as_str().unwrap_or_default().trim_start_matches("urn:outboxd:").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_road_shows_a_place_and_every_road_takes_what_another_gave() {
    let database = TestDatabase::create().await;
    let ids: Vec<String> = database.insert_events((1..=7).map(order)).await.iter().map(ToString::to_string).collect();
    let sealed = settings("sealed", &[KEY]);
    let served = Served::start(&database, &sealed).await;
    wait_for_places(&database, 7).await;

    // Pages, which go on at another instance, and their tags.
    let other = Served::start(&database, &sealed).await;
    let (mut path, mut found) = ("/v1/feed?limit=3".to_owned(), Vec::new());
    for instance in [&served, &other, &served] {
        let page = instance.ask(&path).await;
        shows_no_place(&page);
        assert!(is_sealed(&page.cursor()), "{page:?}");
        found.extend(page.ids());
        path = page.next();
    }
    assert_eq!(found, ids);
    let first = served.ask("/v1/feed?limit=3").await;
    let again = [("authorization", &*format!("Bearer {ALL}")), ("if-none-match", first.header("etag").expect("a tag"))];
    let again = super::ask(&other.address, "/v1/feed?limit=3", &again).await.expect("answered");
    assert_eq!(again.status, 304, "the same place has the same text at every instance");
    other.stop().await;

    // A stream from the cursor of an event on a page, and back.
    let second = first.json()[1]["cursor"].as_str().expect("a cursor").to_owned();
    let mut stream = EventStream::open(&served.address, "/v1/feed", ALL, Some(&second)).await.expect("answered").expect("a stream");
    let event = stream.next_event().await.expect("an event");
    assert!(event.data.contains(&ids[2]) && event.id.as_deref().is_some_and(is_sealed), "{event:?}");
    assert!(!event.data.contains("00000000000"), "{event:?}");
    let page = served.ask(&format!("/v1/feed?after={}", event.id.expect("a cursor"))).await;
    assert_eq!(page.ids(), ids[3..]);

    // The hub gives the same texts.
    let bearer = format!("Bearer {ALL}");
    let mut socket = Socket::open(&served.address, "", &[("authorization", &bearer)]).await.expect("it opens");
    socket.say(HANDSHAKE).await;
    assert_eq!(socket.next().await.as_deref(), Some("{}"));
    socket.say(&SUBSCRIBE.replace("[]", &json!([null, second]).to_string())).await;
    let begun = socket.next_json().await.expect("an answer");
    assert_eq!(begun["result"]["cursor"], json!(second));
    assert!(begun["result"]["head"].as_str().is_some_and(is_sealed), "{begun}");
    let event = socket.next_json().await.expect("an event");
    assert_eq!(
        (&event["arguments"][0]["id"], event["arguments"][1].as_str().map(is_sealed)),
        (&json!(ids[2]), Some(true)),
        "{event}"
    );

    // A cursor at the server is sealed on the way, and plain in the database, where another key finds it.
    let body = json!({ "cursor": second }).to_string();
    let condition = [("authorization", bearer.as_str()), ("if-none-match", "*")];
    let stored = send(&served.address, "PUT", "/v1/cursors/main", &condition, body.as_bytes()).await;
    assert_eq!((stored.status, &stored.json()["cursor"]), (201, &json!(second)), "{stored:?}");
    assert_eq!(database.count("client_cursors where cursor like '0000000000000002.%'").await, 1);

    let plain: String =
        sqlx::query_scalar("select cursor from client_cursors").fetch_one(database.pool()).await.expect("it is stored");
    assert_eq!(served.ask(&format!("/v1/feed?after={plain}")).await.status, 409, "the very same cursor, but not sealed");

    // What an operator looks at is what the client has.
    let binary = Binary::relay(database.url(), &sealed);
    let tail = binary.run(&["feed", "tail", "--client", "all", "--after", &second, "--limit", "1"]).await;
    assert!(tail.stdout.contains(&ids[2]), "{tail:?}");
    let unknown = binary.run(&["feed", "tail", "--client", "all", "--after", "somewhere"]).await;
    assert!(unknown.code != Some(0) && unknown.stderr.contains("expected a cursor of the feed"), "{unknown:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_was_tampered_with_is_refused_and_a_refusal_counts_nothing() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=9).map(order)).await;
    let served = Served::start(&database, &settings("sealed", &[KEY])).await;
    wait_for_places(&database, 9).await;
    let cursor = served.ask("/v1/feed?limit=3").await.cursor();
    let swapped = if cursor.starts_with('A') { "B" } else { "A" };
    let tampered = format!("{swapped}{}", &cursor[1..]);
    for (after, want) in [
        (tampered.as_str(), (409, "another-history")),
        ("0000000000000003.0000000700000007", (409, "another-history")),
        (&cursor[..58], (400, "invalid-request")),
        ("somewhere", (400, "invalid-request")),
    ] {
        assert_eq!(refusal(&served.ask(&format!("/v1/feed?after={after}")).await), (want.0, want.1.to_owned()), "{after}");
        let answer = EventStream::open(&served.address, "/v1/feed", ALL, Some(after)).await.expect("answered");
        assert_eq!(refusal(&answer.err().expect("no stream")).0, want.0, "{after}");
    }
    // Retention tells that something is gone, and from where to go on, and not how much.
    let first = served.ask("/v1/feed?limit=1").await.cursor();
    database.execute(REMOVE_SEVEN).await;
    let expired = served.ask(&format!("/v1/feed?after={first}")).await;
    assert_eq!(refusal(&expired), (410, "expired".to_owned()));
    let from = expired.json()["cursor"].as_str().expect("a cursor").to_owned();
    assert!(is_sealed(&from));
    assert_eq!(served.ask(&format!("/v1/feed?after={from}")).await.ids().len(), 2);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_and_a_key_are_changed_while_clients_keep_their_cursors() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=7).map(order)).await;
    let mut held: Vec<(&str, String)> = Vec::new();
    for (step, form, keys, taken) in [
        ("plain", "plain", &[][..], &["plain"][..]),
        ("migrating", "migrating", &[KEY], &["plain", "migrating"]),
        ("sealed", "sealed", &[KEY], &["migrating", "sealed"]),
        ("rotating", "sealed", &[NEXT, KEY], &["migrating", "sealed", "rotating"]),
        ("rotated", "sealed", &[NEXT], &["rotating", "rotated"]),
        ("leaving", "plain", &[NEXT], &["plain", "rotated", "leaving"]),
    ] {
        let served = Served::start(&database, &settings(form, keys)).await;
        wait_for_places(&database, 7).await;
        held.push((step, served.ask("/v1/feed?limit=3").await.cursor()));
        for (given, cursor) in &held {
            let answer = served.ask(&format!("/v1/feed?after={cursor}")).await;
            // With the same key and form the text is the same, whichever step gave it.
            let is_taken = taken.contains(given) || held.iter().any(|(name, text)| taken.contains(name) && text == cursor);
            assert_eq!(answer.status, if is_taken { 200 } else { 409 }, "{step} takes what {given} gave");
        }
        served.stop().await;
    }
}
