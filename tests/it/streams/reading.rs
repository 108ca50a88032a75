//! `outboxd streams` and `GET /v1/streams/{type}/{key}`: what people and clients see of streams.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{appended, earned};
use crate::feed::client::{Answer, Served, ask};
use crate::support::{Binary, Brittle, Finished, TestDatabase};

async fn outboxd(database: &TestDatabase, arguments: &[&str]) -> Finished {
    Binary::with_config("").run(&[arguments, &["--database-url", database.url()]].concat()).await
}

fn document(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_shown_with_its_last_events_or_from_a_version_on() {
    let database = TestDatabase::create().await;
    appended(&database, "ann", "none", earned(1..=30)).await.expect("it is appended");
    database.execute("insert into stream_states (stream, shape, version, state) select id, 3, 20, '{}' from streams").await;
    let shown = outboxd(&database, &["streams", "show", "account", "ann"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for words in ["account/ann", "version  30", "state    of version 20, shape 3", "points.earned"] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    let versions = |finished: &Finished| {
        let document = document(finished);
        document["events"].as_array().expect("a list").iter().map(|event| event["version"].as_i64()).collect::<Vec<_>>()
    };
    assert_eq!(
        versions(&outboxd(&database, &["streams", "show", "account", "ann", "--json"]).await),
        (11..=30).map(Some).collect::<Vec<_>>()
    );
    let from = outboxd(&database, &["streams", "show", "account", "ann", "--from", "5", "--limit", "2", "--json"]).await;
    assert_eq!(versions(&from), [Some(5), Some(6)]);
    let first = &document(&from)["events"][0];
    assert_eq!((&first["type"], &first["payload"]), (&json!("points.earned"), &json!({ "points": 5 })));
    let unknown = outboxd(&database, &["streams", "show", "account", "\u{1b}[31mbob"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("there is no stream account/") && !unknown.stderr.contains('\u{1b}'), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_each_fault_and_says_where() {
    let database = TestDatabase::create().await;
    let verify = async || outboxd(&database, &["streams", "verify", "--json"]).await;
    assert_eq!(
        (verify().await.code, document(&verify().await)["faults"].clone()),
        (Some(0), json!([])),
        "an empty outbox is whole"
    );
    for key in ["gap", "gone", "other", "head", "state", "lost", "whole"] {
        appended(&database, key, "none", earned(1..=5)).await.expect("it is appended");
    }
    let whole = outboxd(&database, &["streams", "verify"]).await;
    assert_eq!((whole.code, whole.stdout.as_str()), (Some(0), "7 streams with 35 events: no faults\n"));
    for fault in [
        "delete from stream_events v using streams s where s.id = v.stream and s.key = 'gap' and v.version in (2, 3)",
        "set outboxd.changes_log = 'on'; delete from events where aggregate_id = 'gone' and aggregate_version = 4; set outboxd.changes_log = 'off'",
        "update events set aggregate_id = 'whole' where aggregate_id = 'other' and aggregate_version = 2",
        "update streams set version = 7 where key = 'head'",
        "insert into stream_states (stream, shape, version, state) select id, 1, 9, '{}' from streams where key = 'state'",
        "delete from streams where key = 'lost'",
    ] {
        database.execute(fault).await;
    }
    let found = verify().await;
    let report = document(&found);
    let told: Vec<(Value, Value, Value, Value)> = report["faults"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|fault| (fault["key"].clone(), fault["fault"].clone(), fault["version"].clone(), fault["count"].clone()))
        .collect();
    let want = [
        (json!("gap"), json!("gap"), json!(2), json!(2)),
        (json!("gone"), json!("no_event"), json!(4), json!(1)),
        (json!("head"), json!("head"), json!(7), json!(2)),
        (json!("other"), json!("other_event"), json!(2), json!(1)),
        (json!("state"), json!("state"), json!(9), json!(1)),
        (Value::Null, json!("no_stream"), json!(1), json!(5)),
    ];
    assert_eq!((found.code, told), (Some(2), want.to_vec()), "{report}");
    let told = outboxd(&database, &["streams", "verify"]).await.stdout;
    assert!(told.contains("account/gap") && told.contains("-> outboxd streams show account gap --from 2"), "{told}");
}

const SETTINGS: &str = "[feed]\nevents = [\"points.*\", \"secret.*\"]\nlisten = \"127.0.0.1:0\"\n\
    [[clients]]\nname = \"all\"\ntokens = [\"token-of-all-0123456789\"]\n\
    [[clients]]\nname = \"some\"\ntokens = [\"token-of-some-0123456789\"]\nevents = [\"points.*\"]\n\
    [[clients]]\nname = \"acme\"\ntokens = [\"token-of-acme-0123456789\"]\nwhere_headers = { tenant = \"acme\" }\n";

async fn ask_as(served: &Served, client: &str, path: &str, further: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer token-of-{client}-0123456789");
    ask(&served.address, path, &[&[("authorization", bearer.as_str())], further].concat()).await.expect("the feed answers")
}

fn versions(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let events = answer.json();
    events.as_array().expect("a batch").iter().map(|event| event["streamversion"].as_str().expect("a version").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_a_stream_page_by_page() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, SETTINGS).await;
    appended(&database, "a b/\u{e9}", "none", earned(1..=5)).await.expect("it is appended");
    let first = served.ask("/v1/streams/account/a%20b%2F%C3%A9?limit=2").await;
    assert_eq!(
        (versions(&first), first.header("etag"), first.header("stream-version")),
        (vec!["1".to_owned(), "2".to_owned()], Some("\"5\""), Some("5"))
    );
    let event = &first.json()[0];
    assert_eq!(
        (&event["specversion"], &event["type"], &event["data"]),
        (&json!("1.0"), &json!("points.earned"), &json!({ "points": 1 }))
    );
    assert_eq!(event["subject"], "a b/\u{e9}");
    assert!(Uuid::try_parse(event["id"].as_str().unwrap_or_default()).is_ok(), "{event}");
    let second = served.ask(&first.next()).await;
    let third = served.ask(&second.next()).await;
    assert_eq!(
        (versions(&second), versions(&third), third.header("link")),
        (vec!["3".to_owned(), "4".to_owned()], vec!["5".to_owned()], None)
    );
    let beyond = served.ask("/v1/streams/account/a%20b%2F%C3%A9?from=6").await;
    assert_eq!((versions(&beyond), beyond.header("etag")), (vec![], Some("\"5\"")));

    let unchanged = ask_as(&served, "all", "/v1/streams/account/a%20b%2F%C3%A9", &[("if-none-match", "\"5\"")]).await;
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
    appended(&database, "a b/\u{e9}", "5", earned([6])).await.expect("it is appended");
    let changed = ask_as(&served, "all", "/v1/streams/account/a%20b%2F%C3%A9?from=6", &[("if-none-match", "\"5\"")]).await;
    assert_eq!((versions(&changed), changed.header("etag")), (vec!["6".to_owned()], Some("\"6\"")));
    served.stop().await;
}

/// What is not for a client looks like what there is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_a_stream_only_with_all_its_events() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, SETTINGS).await;
    let event = |event_type: &str, tenant: &str| json!({ "type": event_type, "payload": {}, "headers": { "tenant": tenant } });
    let streams = [
        ("mixed", vec![event("points.earned", "acme"), event("secret.told", "acme")]),
        ("inner", vec![event("points.earned", "acme"), event("internal", "acme")]),
        ("acme", vec![event("points.earned", "acme")]),
        ("other", vec![event("points.earned", "other")]),
    ];
    for (key, events) in streams {
        appended(&database, key, "none", Value::from(events)).await.expect("it is appended");
    }
    let path = |key: &str, query: &str| format!("/v1/streams/account/{key}{query}");
    let unknown = ask_as(&served, "some", &path("nobody", ""), &[]).await;
    assert_eq!((unknown.status, &unknown.json()["type"]), (404, &json!("urn:outboxd:not-found")));
    for (client, key, status) in [
        ("all", "mixed", 200),
        ("all", "inner", 404),
        ("some", "mixed", 404),
        ("some", "acme", 200),
        ("acme", "mixed", 200),
        ("acme", "acme", 200),
        ("acme", "other", 404),
    ] {
        for query in ["", "?from=2&limit=1", "?from=99"] {
            let answer = ask_as(&served, client, &path(key, query), &[]).await;
            assert_eq!(answer.status, status, "{client} {key} {query}: {answer:?}");
            assert!(status == 200 || answer.body == unknown.body, "{client} {key}: {answer:?}");
        }
    }
    assert_eq!(ask(&served.address, &path("acme", ""), &[]).await.expect("it answers").status, 401);
    for query in ["?from=0", "?limit=0", "?from=x", "?after=1", "?limit=1001"] {
        assert_eq!(served.ask(&path("acme", query)).await.status, 400, "{query}");
    }

    database
        .execute("set outboxd.changes_log = 'on'; delete from events where aggregate_id = 'mixed' and aggregate_version = 1")
        .await;
    let gone = served.ask(&path("mixed", "")).await;
    assert_eq!((gone.status, &gone.json()["version"]), (410, &json!(1)), "{gone:?}");
    assert_eq!(served.ask(&path("mixed", "?from=2")).await.status, 200);
    served.stop().await;
}

/// One event whose bytes a fault of the disk has taken keeps neither people nor clients from the versions around it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_a_damaged_event_is_read_around_it() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, SETTINGS).await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = |length: usize| (0..length).map(|_| random.alphanumeric()).collect::<String>();
    let mut events = Vec::new();
    for n in 1..=9 {
        let expected = if n == 1 { "none".to_owned() } else { (n - 1).to_string() };
        // 2^63 and more: what no double holds.
        let payload = json!({ "points": 18_446_744_073_709_551_000_u64 + n, "text": text(30_000) });
        let headers = json!({ "tenant": "acme", "long": text(10_000) });
        let id = Uuid::from_u128(u128::from(n));
        let event = json!([{ "id": id, "type": "points.earned", "payload": payload, "headers": headers }]);
        let insert = async {
            appended(&database, "ann", &expected, event).await.expect("it is appended");
            id
        };
        events.push(Brittle::around(&database, insert).await);
    }
    for n in [1, 5, 9] {
        events[n - 1].lose_payload(&database).await;
    }
    events[5].lose_headers(&database).await;

    let shown = outboxd(&database, &["streams", "show", "account", "ann"]).await;
    assert_eq!((shown.code, shown.stdout.matches("(damaged)").count()), (Some(0), 4), "{shown:?}");
    let shown = outboxd(&database, &["streams", "show", "account", "ann", "--json"]).await;
    assert!(shown.stdout.contains("18446744073709551002"), "as it was recorded: {}", &shown.stdout[..200]);
    let told = document(&shown);
    for (at, event) in told["events"].as_array().expect("a list").iter().enumerate() {
        let lost = (event["payload"].is_null(), event["headers"] == json!({}), event["damage"].is_string());
        let want = match at + 1 {
            1 | 5 | 9 => (true, false, true),
            6 => (false, true, true),
            _ => (false, false, false),
        };
        assert_eq!((&event["version"], lost), (&json!(at + 1), want));
    }
    let whole = outboxd(&database, &["streams", "verify"]).await;
    assert_eq!(whole.code, Some(0), "its versions are there: {whole:?}");

    let (mut path, mut seen) = ("/v1/streams/account/ann".to_owned(), Vec::new());
    loop {
        let page = served.ask(&path).await;
        seen.extend(page.json().as_array().expect("a batch").iter().map(|event| {
            let is_told = event["type"] == "outboxd.unavailable" && event["data"]["reason"] == "unreadable";
            (event["streamversion"].as_str().expect("a version").to_owned(), is_told)
        }));
        if page.header("link").is_none() {
            break;
        }
        path = page.next();
    }
    let want: Vec<(String, bool)> = (1..=9).map(|n| (n.to_string(), [1, 5, 6, 9].contains(&n))).collect();
    assert_eq!(seen, want);
    // Whose headers are lost, of that nobody knows for whom it is; and a page with it is for nobody who has to be sure.
    let page = async |from: u32| ask_as(&served, "acme", &format!("/v1/streams/account/ann?from={from}&limit=1"), &[]).await.status;
    assert_eq!((page(4).await, page(5).await, page(6).await, page(7).await), (200, 200, 404, 200));
    served.stop().await;
}
