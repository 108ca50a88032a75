//! Cursors that clients leave to the server: who may change them, from what, and in which direction; and what operators see of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::{ALL, Answer, Served};
use super::pages::{ask_as, order};
use super::wait_for_places;
use crate::hub::raw::{HANDSHAKE, Socket, send};
use crate::support::{Binary, TestDatabase, eventually};

const STOCK: &str = "token-of-stock-0123456789";

/// Two clients that may leave cursors to the server under the same name, and one of them under another one, too.
fn settings() -> String {
    format!(
        "[alerts]\ninterval = \"100ms\"\ncursor_lag = \"1d\"\n[feed]\nevents = [\"*\"]\nlisten = \"127.0.0.1:0\"\n[hub]\npath = \"/hubs/events\"\n\
         [[clients]]\nname = \"all\"\ntokens = [\"{ALL}\"]\ncursors = [\"main\", \"audit\"]\n\
         [[clients]]\nname = \"stock\"\ntokens = [\"{STOCK}\"]\ncursors = [\"main\"]\n"
    )
}

async fn act(served: &Served, (token, method, path): (&str, &str, &str), condition: &[(&str, &str)], body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend_from_slice(condition);
    send(&served.address, method, path, &headers, body.as_bytes()).await
}

/// Stores a cursor of the client `all`.
async fn put(served: &Served, condition: &[(&str, &str)], body: Value) -> Answer {
    act(served, (ALL, "PUT", "/v1/cursors/main"), condition, &body.to_string()).await
}

fn kind(answer: &Answer) -> (u16, String) {
    let told = answer.json();
    let kind = told["type"].as_str().unwrap_or_default().trim_start_matches("urn:outboxd:").to_owned();
    (answer.status, kind)
}

/// The cursors of the events of the first page.
async fn cursors(served: &Served) -> Vec<String> {
    let page = ask_as(served, ALL, "/v1/feed").await.json();
    page.as_array().expect("events").iter().map(|event| event["cursor"].as_str().expect("a cursor").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_changed_only_from_what_was_seen_and_goes_back_only_on_purpose() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=3).map(order)).await;
    let settings = settings();
    let (served, other) = (Served::start(&database, &settings).await, Served::start(&database, &settings).await);
    wait_for_places(&database, 3).await;
    let cursors = cursors(&served).await;
    let to = |number: usize| json!({ "cursor": cursors[number] });
    let path = "/v1/cursors/main";

    assert_eq!(kind(&ask_as(&served, ALL, path).await), (404, "not-stored".to_owned()));
    assert_eq!(kind(&put(&served, &[], to(0)).await), (428, "precondition-required".to_owned()));
    assert_eq!(kind(&put(&served, &[("if-match", "*")], to(0)).await), (412, "precondition-failed".to_owned()), "there is none");
    let first = put(&served, &[("if-none-match", "*")], to(1)).await;
    assert_eq!((first.status, first.json()["cursor"].as_str()), (201, Some(cursors[1].as_str())), "{first:?}");
    let seen = first.header("etag").expect("a tag").to_owned();
    let again = put(&served, &[("if-none-match", "*")], to(2)).await;
    assert_eq!(kind(&again), (412, "precondition-failed".to_owned()));
    assert_eq!(again.json()["stored"]["etag"].as_str(), Some(seen.as_str()), "whose answer was lost finds out what is stored");

    // At another instance, because the state is in the database.
    let read = ask_as(&other, ALL, path).await;
    assert_eq!((read.status, read.header("etag"), read.header("cache-control")), (200, Some(seen.as_str()), Some("no-store")));
    let moved = put(&other, &[("if-match", &seen)], to(2)).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let now = moved.header("etag").expect("a tag").to_owned();
    assert_ne!(now, seen);
    assert_eq!(kind(&put(&served, &[("if-match", &seen)], to(2)).await), (412, "precondition-failed".to_owned()), "an old tag");
    assert_eq!(
        kind(&put(&served, &[("if-match", "\"x\"")], to(2)).await),
        (412, "precondition-failed".to_owned()),
        "no tag of ours"
    );

    let back = put(&served, &[("if-match", &now)], to(0)).await;
    assert_eq!((kind(&back), back.json()["stored"]["cursor"].as_str()), ((409, "backwards".to_owned()), Some(cursors[2].as_str())));
    assert_eq!(kind(&put(&served, &[("if-match", "*")], to(0)).await), (409, "backwards".to_owned()));
    let on_purpose = put(&served, &[("if-match", &now)], json!({ "cursor": cursors[0], "backwards": true })).await;
    assert_eq!(on_purpose.status, 200, "{on_purpose:?}");
    let page = ask_as(&served, ALL, &format!("/v1/feed?after={}", on_purpose.json()["cursor"].as_str().expect("a cursor"))).await;
    assert_eq!(page.ids().len(), 2, "what is stored is a cursor like others");

    let remove = async |condition: &[(&str, &str)]| act(&served, (ALL, "DELETE", path), condition, "").await;
    assert_eq!(kind(&remove(&[]).await), (428, "precondition-required".to_owned()));
    assert_eq!(kind(&remove(&[("if-match", &now)]).await), (412, "precondition-failed".to_owned()));
    assert_eq!(remove(&[("if-match", on_purpose.header("etag").expect("a tag"))]).await.status, 204);
    assert_eq!(kind(&remove(&[("if-match", "*")]).await), (404, "not-stored".to_owned()));
    served.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_that_have_seen_the_same_one_moves_the_cursor() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=3).map(order)).await;
    let served = Served::start(&database, &settings()).await;
    wait_for_places(&database, 3).await;
    let cursors = cursors(&served).await;
    let created = async |_| put(&served, &[("if-none-match", "*")], json!({ "cursor": cursors[0] })).await.status;
    // Fewer than `max_connections`, so that none is refused for another reason.
    let statuses = futures_util::future::join_all((0..18).map(created)).await;
    let counted = |statuses: &[u16]| {
        statuses.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<u16, usize>, status| {
            *counts.entry(*status).or_default() += 1;
            counts
        })
    };
    assert_eq!(counted(&statuses), BTreeMap::from([(201, 1), (412, 17)]));
    let seen = ask_as(&served, ALL, "/v1/cursors/main").await.header("etag").expect("a tag").to_owned();
    let moved = async |number: usize| put(&served, &[("if-match", &seen)], json!({ "cursor": cursors[number % 3] })).await.status;
    let statuses = futures_util::future::join_all((0..18).map(moved)).await;
    assert_eq!(counted(&statuses), BTreeMap::from([(200, 1), (412, 17)]));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_belongs_to_its_client_and_to_this_feed() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=3).map(order)).await;
    let served = Served::start(&database, &settings()).await;
    wait_for_places(&database, 3).await;
    let cursors = cursors(&served).await;
    let create = [("if-none-match", "*")];
    assert_eq!(put(&served, &create, json!({ "cursor": cursors[1] })).await.status, 201);

    // Another client has the same name for another cursor, and none of the rest.
    assert_eq!(kind(&ask_as(&served, STOCK, "/v1/cursors/main").await), (404, "not-stored".to_owned()));
    assert_eq!(kind(&ask_as(&served, STOCK, "/v1/cursors/audit").await), (404, "not-found".to_owned()));
    assert_eq!(ask_as(&served, STOCK, "/v1/cursors").await.json(), json!({ "cursors": [{ "name": "main", "cursor": null }] }));
    let listed = ask_as(&served, ALL, "/v1/cursors").await.json();
    assert_eq!(listed["cursors"][0]["cursor"].as_str(), Some(cursors[1].as_str()));
    assert_eq!(listed["cursors"][1], json!({ "name": "audit", "cursor": null }));
    assert_eq!(ask_as(&served, "nobody-nobody-nobody", "/v1/cursors").await.status, 401);
    assert_eq!(act(&served, ("nobody-nobody-nobody", "PUT", "/v1/cursors/main"), &create, "{}").await.status, 401);

    let (place, check) = cursors[1].split_once('.').expect("two parts");
    let forged = format!("{place}.{}", check.replace(&check[8..], "00000000"));
    let ahead = format!("{:016x}.{check}", 4_000);
    let foreign = format!("{place}.ffffffff{}", &check[8..]);
    let audit = async |condition: &[(&str, &str)], body: &str| {
        kind(&act(&served, (ALL, "PUT", "/v1/cursors/audit"), condition, body).await)
    };
    for (body, want) in [
        (json!({ "cursor": forged }).to_string(), (409, "another-history")),
        (json!({ "cursor": foreign }).to_string(), (409, "another-history")),
        (json!({ "cursor": ahead }).to_string(), (409, "history-diverged")),
        (json!({ "cursor": "latest" }).to_string(), (400, "invalid-request")),
        (json!({ "cursor": "" }).to_string(), (400, "invalid-request")),
        (json!({ "cursor": cursors[0], "backward": true }).to_string(), (400, "invalid-request")),
        (String::new(), (400, "invalid-request")),
        ("not JSON".to_owned(), (400, "invalid-request")),
        (format!("{{\"cursor\": \"{}\"}}", "x".repeat(5_000)), (400, "invalid-request")),
    ] {
        assert_eq!(audit(&create, &body).await, (want.0, want.1.to_owned()), "{body}");
    }
    let valid = json!({ "cursor": cursors[0] }).to_string();
    assert_eq!(audit(&[("if-match", "*"), ("if-none-match", "*")], &valid).await.0, 400);
    let wrong = act(&served, (ALL, "POST", "/v1/cursors/audit"), &create, &valid).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD, PUT, DELETE")));
    assert_eq!(database.count("client_cursors").await, 1, "nothing of it was stored");

    // Retention has removed what lies behind the cursor: it is told as on a page, with where to go on.
    database.execute("update feed_removed set place = 2, occurred_at = now()").await;
    let expired = act(&served, (ALL, "PUT", "/v1/cursors/audit"), &create, &valid).await;
    assert_eq!((kind(&expired), expired.json()["gone"].as_i64()), ((410, "expired".to_owned()), Some(1)), "{expired:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_how_far_clients_are_behind_and_is_told_when_it_is_long() {
    let database = TestDatabase::create().await;
    database
        .execute("insert into events (type, payload, occurred_at) select 'order.placed', '{}', now() - interval '2 days' from generate_series(1, 3)")
        .await;
    let (served, binary) = Served::with_metrics(&database, &settings()).await;
    wait_for_places(&database, 3).await;
    let cursors = cursors(&served).await;
    assert_eq!(put(&served, &[("if-none-match", "*")], json!({ "cursor": cursors[0] })).await.status, 201);

    let firing = "alerts where key = 'cursor_lag/all/main' and status = 'firing' and severity = 'warning' and count = 2";
    eventually("the alert", || async { (database.count(firing).await == 1).then_some(()) }).await;
    let metric = "outboxd_feed_cursor_lag_events{client=\"all\",cursor=\"main\"} ";
    eventually("the metric", || async { served.metrics().await.contains(&format!("{metric}2")).then_some(()) }).await;
    let metrics = served.metrics().await;
    let age =
        metrics.lines().find_map(|line| line.strip_prefix("outboxd_feed_cursor_lag_seconds{client=\"all\",cursor=\"main\"} "));
    assert!(age.and_then(|age| age.parse::<f64>().ok()).is_some_and(|age| age > 172_000.0), "{age:?}");
    assert!(
        metrics.contains("outboxd_feed_cursor_lag_events{client=\"stock\",cursor=\"main\"} 0"),
        "a series at zero from the start"
    );
    let status = binary.run(&["feed", "status"]).await.stdout;
    let line = status.lines().find(|line| line.trim_start().starts_with("all")).unwrap_or_else(|| panic!("{status}"));
    assert!(line.contains("main") && line.contains("valid") && line.contains("2d"), "{status}");
    assert!(binary.run(&["clients", "list"]).await.stdout.contains("main, audit"));

    // The client has read the rest.
    assert_eq!(put(&served, &[("if-match", "*")], json!({ "cursor": cursors[2] })).await.status, 200);
    let over = "alerts where key = 'cursor_lag/all/main' and status = 'resolved'";
    eventually("the end of the alert", || async { (database.count(over).await == 1).then_some(()) }).await;

    // The cursor of another history is no place of this one.
    database.execute("update client_cursors set cursor = '0000000000000003.0000000700000007'").await;
    let status: Value = serde_json::from_str(&binary.run(&["feed", "status", "--json"]).await.stdout).expect("JSON");
    let cursor = &status["cursors"][0];
    assert_eq!((&cursor["client"], &cursor["state"], &cursor["behind"]), (&json!("all"), &json!("another-history"), &json!(0)));

    // Its client is configured no more.
    let without = Binary::relay(database.url(), &settings().replace("cursors = [\"main\", \"audit\"]\n", ""));
    let told: Value = serde_json::from_str(&without.run(&["doctor", "--json"]).await.stdout).expect("JSON");
    let findings = told["findings"].as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["check"] == "feed").unwrap_or_else(|| panic!("{told}"));
    assert!(found["what"].as_str().is_some_and(|what| what.contains("the cursor main of client all")), "{found}");
    database.execute(found["fixes"][0]["text"].as_str().expect("a statement")).await;
    assert_eq!(database.count("client_cursors").await, 0, "the fix does what it says");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_hub_acknowledges_and_takes_nothing_back() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=3).map(order)).await;
    let served = Served::start(&database, &settings()).await;
    wait_for_places(&database, 3).await;
    let cursors = cursors(&served).await;
    let bearer = format!("Bearer {ALL}");
    let mut socket = Socket::open(&served.address, "", &[("authorization", &bearer)]).await.expect("it opens");
    socket.say(HANDSHAKE).await;
    assert_eq!(socket.next().await.as_deref(), Some("{}"));
    for (number, (arguments, want)) in [
        (json!([cursors[1], "main"]), Ok(Some(1))),
        (json!([cursors[0], "main"]), Ok(Some(1))),
        (json!([cursors[2], "main"]), Ok(Some(2))),
        (json!([cursors[2]]), Err("not-found")),
        (json!([cursors[2], "other"]), Err("not-found")),
        (json!(["0000000000000001.0000000700000007", "main"]), Err("another-history")),
        (json!(["latest", "main"]), Err("invalid-request")),
    ]
    .into_iter()
    .enumerate()
    {
        let call = json!({ "type": 1, "invocationId": number.to_string(), "target": "Ack", "arguments": arguments });
        socket.say(&format!("{call}\u{1e}")).await;
        let answer = loop {
            let record = socket.next_json().await.expect("an answer");
            if record["type"] == 3 {
                break record;
            }
        };
        match want {
            Ok(stored) => {
                assert_eq!(answer.get("error"), None, "{arguments}: {answer}");
                let read = ask_as(&served, ALL, "/v1/cursors/main").await.json();
                assert_eq!(read["cursor"].as_str(), stored.map(|number: usize| cursors[number].as_str()), "{arguments}");
            }
            Err(want) => assert!(answer["error"].as_str().is_some_and(|error| error.contains(want)), "{arguments}: {answer}"),
        }
    }
    served.stop().await;
}
