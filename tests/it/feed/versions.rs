//! Clients that read an event in different versions of its contract: on pages, on streams and from memory, each the same; and what a client is told of an
//! event that has no valid form for it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Answer, EventStream, Served, ask};
use super::wait_for_places;
use crate::contracts::copy;
use crate::support::{Binary, NewRow, TestDatabase};

const OLD: &str = "token-of-old-0123456789";
const NEW: &str = "token-of-new-0123456789";
const OTHER: &str = "token-of-other-01234567";
const SETTINGS: &str = "[contracts]\npath = \"contracts\"\ncloudevents_type = \"{type}.v{version}\"\n\
    [feed]\nevents = [\"order.*\", \"other\"]\nlisten = \"127.0.0.1:0\"\nheartbeat = \"200ms\"\n\
    [[clients]]\nname = \"old\"\ntokens = [\"token-of-old-0123456789\"]\nevents = [\"order.placed@1\"]\n\
    [[clients]]\nname = \"new\"\ntokens = [\"token-of-new-0123456789\"]\nevents = [\"order.*@2\", \"other\"]\n\
    [[clients]]\nname = \"other\"\ntokens = [\"token-of-other-01234567\"]\nevents = [\"other\"]\n";

const ONE: &str = r#"{"id": "o-1", "total": "90071992547409.93", "status": "new"}"#;
const ONE_AS_TWO: &str = r#"{"order_id":"o-1","total_cents":9007199254740993,"status":"created","currency":"EUR"}"#;
const TWO: &str = r#"{"order_id": "o-2", "total_cents": 99, "currency": "CHF", "status": "settled"}"#;
const TWO_AS_ONE: &str = r#"{"id":"o-2","total":"0.99","status":"paid"}"#;
/// Version 2 knows no status "lost": the cast does not list it.
const LOST: &str = r#"{"id": "o-3", "total": "1.00", "status": "lost"}"#;

async fn as_client(served: &Served, path: &str, token: &str) -> Answer {
    ask(&served.address, path, &[("authorization", &format!("Bearer {token}"))]).await.expect("the feed answers")
}

/// Writes a payload byte for byte.
async fn record(database: &TestDatabase, payload: &str, version: u32) -> Uuid {
    let sql = "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers) \
               values ('order.placed', 'order', '1', $1::json, jsonb_build_object('version', $2)) returning id";
    sqlx::query_scalar(sql)
        .bind(payload)
        .bind(i32::try_from(version).expect("small"))
        .fetch_one(database.pool())
        .await
        .expect("an event")
}

/// Types and payloads, byte for byte. In front of the payload stands nothing but attributes.
fn payloads(body: &str) -> Vec<(String, String)> {
    let events: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(body).expect("a page");
    events.iter().map(|event| payload(event.get())).collect()
}

fn payload(event: &str) -> (String, String) {
    let parsed: Value = serde_json::from_str(event).expect("a CloudEvent");
    let data = event.split_once("\"data\":").expect("data").1;
    (parsed["type"].as_str().expect("a type").to_owned(), data[..data.len() - 1].to_owned())
}

fn typed(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(event_type, payload)| ((*event_type).to_owned(), (*payload).to_owned())).collect()
}

fn binary(database: &TestDatabase) -> Binary {
    let binary = Binary::relay(database.url(), SETTINGS);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/contracts"), &binary.directory().join("contracts"));
    binary
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_reads_its_version_on_every_road_and_a_mended_cast_gives_what_was_not_to_be_had() {
    let database = TestDatabase::create().await;
    let binary = binary(&database);
    let served = Served::of(&binary).await;
    record(&database, ONE, 1).await;
    record(&database, TWO, 2).await;
    let lost = record(&database, LOST, 1).await;
    database.insert_event(NewRow::new("other").of("order", 1).payload(json!({ "n": 1 }))).await;
    wait_for_places(&database, 4).await;

    let old = as_client(&served, "/v1/feed", OLD).await;
    let want_old = typed(&[("order.placed.v1", ONE), ("order.placed.v1", TWO_AS_ONE), ("order.placed.v1", LOST)]);
    assert_eq!(payloads(&old.body), want_old);
    assert_eq!(old.json()[0]["sunset"], "Thu, 31 Dec 2026 00:00:00 GMT", "a version that comes to an end says so");
    let new = as_client(&served, "/v1/feed", NEW).await;
    let got = payloads(&new.body);
    let want_new = typed(&[("order.placed.v2", ONE_AS_TWO), ("order.placed.v2", TWO)]);
    assert_eq!((&got[..2], &got[3]), (&want_new[..], &("other".to_owned(), "{\"n\": 1}".to_owned())));
    let instead = &new.json()[2];
    assert_eq!((&instead["type"], &instead["id"]), (&json!("outboxd.unavailable"), &json!(lost)));
    let data = &instead["data"];
    assert_eq!((&data["type"], &data["version"], &data["reason"]), (&json!("order.placed"), &json!(2), &json!("contract")));
    assert!(!data.to_string().contains("lost") && !data.to_string().contains("o-3"), "{data}: no value of the payload");

    // The same bytes on a stream, of what was there before and of what comes.
    let mut streams = Vec::new();
    for (token, page) in [(OLD, &old), (NEW, &new)] {
        let opened = EventStream::open(&served.address, "/v1/feed?after=earliest", token, None).await;
        let mut events = opened.expect("the feed answers").expect("a stream");
        for event in payloads(&page.body) {
            assert_eq!(payload(&events.next_event().await.expect("an event").data), event);
        }
        streams.push(events);
    }
    record(&database, TWO, 2).await;
    record(&database, ONE, 1).await;
    for (events, want) in streams.iter_mut().zip([[TWO_AS_ONE, ONE], [TWO, ONE_AS_TWO]]) {
        for want in want {
            let event = events.next_event().await.expect("an event");
            assert_eq!((event.event.as_deref(), payload(&event.data).1.as_str()), (Some("order.placed"), want));
        }
    }
    let (old_now, new_now) = (as_client(&served, "/v1/feed", OLD).await, as_client(&served, "/v1/feed", NEW).await);
    let same = as_client(&served, "/v1/feed", NEW).await;
    assert_eq!(new_now.header("etag"), same.header("etag"));
    assert_eq!((old_now.ids().len(), new_now.ids().len()), (5, 6));
    let seen = binary.run(&["feed", "tail", "--client", "new"]).await;
    assert_eq!(seen.stdout.lines().map(payload).collect::<Vec<_>>(), payloads(&new_now.body), "{seen:?}");

    // A reload takes up the mended cast; who reads again gets the event itself, from memory and from the database.
    let file = binary.directory().join("contracts/orders.toml");
    let text = std::fs::read_to_string(&file).expect("the contracts");
    std::fs::write(&file, text.replace("values = { new = \"created\",", "values = { lost = \"created\", new = \"created\","))
        .expect("the directory is ours");
    served.running.hang_up();
    served.running.wait_for_output("reloaded").await;
    assert!(streams[1].next_event().await.is_none(), "the connections of a client that reads something else end");
    let mended = as_client(&served, "/v1/feed", NEW).await;
    assert_eq!(payloads(&mended.body)[2].0, "order.placed.v2", "{}", mended.body);
    assert_ne!(mended.header("etag"), new_now.header("etag"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_the_contracts_of_what_it_may_see_and_no_others() {
    let database = TestDatabase::create().await;
    let (served, binary) = (Served::of(&binary(&database)).await, binary(&database));
    let listed = as_client(&served, "/v1/contracts", OLD).await.json();
    let contract = &listed["contracts"][0];
    assert_eq!((&contract["type"], &contract["reads"]), (&json!("order.placed"), &json!(1)), "{listed}");
    let first = &contract["versions"][0];
    assert_eq!((&first["state"], &first["successor"], &first["sunset"]), (&json!("deprecated"), &json!(2), &json!("2026-12-31")));
    for version in contract["versions"].as_array().expect("versions") {
        let schema = as_client(&served, version["schema"].as_str().expect("an address"), OLD).await;
        assert_eq!((schema.status, schema.header("content-type")), (200, Some("application/schema+json")));
        let number = version["version"].as_u64().expect("a number");
        let file = binary.directory().join(format!("contracts/order.placed.{number}.json"));
        assert_eq!(schema.body.trim_end(), std::fs::read_to_string(file).expect("the schema").trim_end());
    }
    assert_eq!(as_client(&served, "/v1/contracts", OTHER).await.json(), json!({ "contracts": [] }));
    for (token, want) in [(OLD, json!(["order.placed.v1", "order.placed.v2"])), (OTHER, json!([]))] {
        let document = as_client(&served, "/v1/contracts/asyncapi.json", token).await.json();
        let channels: Vec<_> = document["channels"].as_object().expect("channels").keys().cloned().collect();
        assert_eq!((&document["asyncapi"], json!(channels)), (&json!("3.0.0"), want));
    }
    for path in ["order.placed/1", "order.placed/3", "order.placed/x", "none/1"] {
        let token = if path == "order.placed/1" { OTHER } else { OLD };
        assert_eq!(as_client(&served, &format!("/v1/contracts/{path}/schema.json"), token).await.status, 404, "{path}");
    }
    assert_eq!(ask(&served.address, "/v1/contracts", &[]).await.expect("answered").status, 401);

    // Who reads what is shown, and a client has to say which version it reads.
    let shown = binary.run(&["contracts", "list"]).await.stdout;
    assert!(shown.contains("old (client)") && shown.contains("new (client)"), "{shown}");
    for (events, want) in [
        ("order.placed", "clients.old.events: wants order.placed, of which the versions 1 and 2 are served"),
        ("order.placed@3", "clients.old.events: \"order.placed@3\": there is no such version"),
        ("invoice@1", "clients.old.events: \"invoice@1\" pins a version, and no contract has such a type"),
    ] {
        let wrong = Binary::relay(database.url(), &SETTINGS.replace("order.placed@1", events));
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/contracts"), &wrong.directory().join("contracts"));
        for command in [&["check"][..], &["contracts", "list"]] {
            let told = wrong.run(command).await;
            assert!(told.code == Some(64) && told.stderr.contains(want), "{events}: {told:?}");
        }
    }
    tokio::time::timeout(Duration::from_secs(60), served.stop()).await.expect("it stops");
}
