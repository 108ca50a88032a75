//! `outboxd feed` and `outboxd clients`: what an operator sees of the feed and of those who read it.

use serde_json::{Value, json};
use sha2::Digest;

use super::client::{FEED, Served, ask};
use super::wait_for_places;
use crate::support::{Binary, NewRow, TestDatabase};

const CLIENTS: &str = "[feed]\nevents = [\"order.*\"]\n\
    [[clients]]\nname = \"acme\"\ntokens = [\"token-of-acme-012345\"]\nevents = [\"order.placed\"]\nwhere_headers = { tenant = \"acme\" }\n\
    [[clients]]\nname = \"all\"\ntokens = [\"token-of-all-0123456\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_a_client_sees() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay(database.url(), CLIENTS);
    let empty = binary.run(&["feed", "status"]).await;
    assert!(empty.code == Some(0) && empty.stdout.contains("no event has a place yet"), "{empty:?}");
    let row = |event_type: &str, tenant: &str| NewRow::new(event_type).of("order", tenant).headers(json!({ "tenant": tenant }));
    database.insert_events([row("order.placed", "acme"), row("order.paid", "acme"), row("order.placed", "zeta")]).await;
    let running = binary.spawn(&["run"]);
    wait_for_places(&database, 3).await;

    let lines = |stdout: &str| stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
    let acme = binary.run(&["feed", "tail", "--client", "acme"]).await;
    assert_eq!(lines(&acme.stdout).iter().map(|event| event["subject"].clone()).collect::<Vec<_>>(), [json!("acme")], "{acme:?}");
    let all = lines(&binary.run(&["feed", "tail", "--client", "all", "--limit", "2"]).await.stdout);
    assert_eq!(all.len(), 2);
    let cursor = all[1]["cursor"].as_str().expect("a cursor");
    let rest = lines(&binary.run(&["feed", "tail", "--client", "all", "--after", cursor]).await.stdout);
    assert_eq!(rest.len(), 1);
    let unknown = binary.run(&["feed", "tail", "--client", "nobody"]).await;
    assert!(unknown.code == Some(64) && unknown.stderr.contains("it has acme, all"), "{unknown:?}");

    let status: Value = serde_json::from_str(&binary.run(&["feed", "status", "--json"]).await.stdout).expect("JSON");
    assert_eq!((&status["last_place"], &status["types"], &status["epochs"][0]["why"]), (&json!(3), &json!(2), &json!("first")));
    let listed = binary.run(&["clients", "list"]).await.stdout;
    assert!(listed.contains("acme") && listed.contains("tenant = \"acme\"") && !listed.contains("token-of"), "{listed}");
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_opens_the_feed_by_its_digest_alone() {
    let database = TestDatabase::create().await;
    let made = Binary::with_config("").run(&["clients", "token", "--json"]).await.stdout;
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let (token, digest) = (made["token"].as_str().expect("a token"), made["digest"].as_str().expect("a digest"));
    let hex: String = sha2::Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, format!("sha256:{hex}"));

    let served = Served::start(&database, &FEED.replace("token-of-all-0123456789", digest)).await;
    database.insert_event(NewRow::new("t")).await;
    wait_for_places(&database, 1).await;
    let answer = ask(&served.address, "/v1/feed", &[("authorization", &format!("bearer {token}"))]).await.expect("answered");
    assert_eq!(answer.ids().len(), 1);
    let by_digest = ask(&served.address, "/v1/feed", &[("authorization", &format!("Bearer {digest}"))]).await.expect("answered");
    assert_eq!(by_digest.status, 401, "the digest is no token");
    served.stop().await;
}
