//! The console in a real browser: what an operator does at night, without a script, for those who cannot see it, in both themes.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use super::*;
use crate::support::find_program;

/// The pages that are looked at, each with a name for its picture.
fn pages(event: Uuid) -> Value {
    json!([
        ["now", ""],
        ["dead-letters", "dead-letters"],
        ["letters", "dead-letters/list?handler=billing"],
        ["letter", format!("e/{event}/billing")],
        ["edit", format!("e/{event}/billing/edit")],
        ["tail", "tail"],
        ["map", "map"],
        ["handover", "handover"],
        ["payload", format!("payloads/{event}")],
        ["replay-preview", "replays/new?handler=billing"],
        ["discard-preview", "dead-letters/discard?handler=billing"],
        ["replays", "replays"],
        ["handler", "handlers/billing"],
        ["pause", "handlers/billing/pause"],
        ["test", "handlers/billing/test"],
        ["keys", "keys"],
        ["alerts", "alerts"],
        ["events", "events"],
        ["audit", "audit"],
        ["doctor", "doctor"],
        ["login", "login"],
        ["missing", "nowhere"],
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_replays_the_first_ten_and_then_the_rest_in_a_real_browser() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("target/clients/browser/node_modules");
    let Some(node) = find_program(&["node"], &["--version"]).await else { return };
    let Some(chromium) = find_program(&["/usr/bin/chromium", "chromium"], &["--version"]).await else { return };
    let Some(_) = find_program(&["test"], &["-d", &modules.join("playwright-core").to_string_lossy()]).await else { return };
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|request| {
        let n = serde_json::from_slice::<Value>(request.body()).ok().and_then(|body| body["n"].as_i64()).unwrap_or_default();
        if n % 40 == 39 { Answer::status(400).body("no such order") } else { Answer::status(422).body("the receiver is on fire") }
    })
    .await;
    let console = Served::relay(&database, &(entry("ann", ADMIN, Role::Admin, true) + &webhook(&receiver))).await;
    let ids = dead_letters(&database, 160).await;
    // A second attempt of the letter that is looked at, to compare.
    sqlx::query(
        "insert into attempts (at, seq, subscription, attempt, duration_ms, status, outcome, reason, detail, instance)
         select clock_timestamp() - interval '1 hour', e.seq, s.id, 1, 250, 503, 'retry', 'server_error', E'later\nplease', 'relay-1'
           from events e, subscriptions s where e.id = $1 and s.handler = 'billing'",
    )
    .bind(ids[0])
    .execute(database.pool())
    .await
    .expect("an attempt");
    receiver.answer_with(|_| Answer::ok());
    let pictures = std::env::var("OUTBOXD_TEST_PICTURES").unwrap_or_default();
    let output = Command::new(node)
        .arg(root.join("tests/it/console/browser/scenario.cjs"))
        .args([&format!("http://{}/", console.address), ADMIN, &chromium.to_string_lossy(), &pictures])
        .env("NODE_PATH", &modules)
        .env("CONSOLE_PATHS", pages(ids[0]).to_string())
        .env("CONSOLE_LETTER", format!("e/{}/billing", ids[39]))
        .output()
        .await
        .expect("node runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}\n{}", console.running.stderr());
    let said: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("an object per line")).collect();
    assert_eq!(said[0]["violations"], json!([]), "accessibility, and a screen of 360 pixels");
    let replayed = &said[1]["replayed"];
    assert_eq!(replayed["shown"], "156 dead letters", "{replayed}");
    assert_eq!(replayed["clicks"], 5, "{replayed}");
    for (part, count) in [("first", 10), ("rest", 146)] {
        let facts = replayed[part].as_str().expect("a text").replace('\n', " ");
        assert!(facts.contains(&format!("Delivered {count} ")) && facts.contains("Failed again 0 "), "{part}: {facts}");
    }
    assert!(said[2]["plain"]["paused"].as_str().is_some_and(|text| text.contains("a test without a script")), "{said:?}");
    assert!(said[2]["plain"]["resumed"].as_str().is_some_and(|text| text.contains("Resumed.")), "{said:?}");
    let edited = &said[3]["edited"];
    assert!(edited["changes"].as_str().is_some_and(|text| text.contains("12345678901234567891")), "{edited}");
    assert!(edited["done"].as_str().is_some_and(|text| text.contains("Recorded.") && text.contains("A correction of")), "{edited}");
    let keys = &said[4]["keys"];
    assert!(keys["gone"].as_str().is_some_and(|url| url.ends_with("/events")), "{keys}");
    assert_eq!((&keys["help"], &keys["focused"]), (&json!(true), &json!("A")), "{keys}");
    let zone = &said[5]["zone"];
    let (utc, local) = (zone["utc"].as_str().expect("a time"), zone["local"].as_str().expect("a time"));
    assert!(utc.ends_with(" UTC") && !local.ends_with(" UTC") && zone["kept"] == zone["local"], "{zone}");
    assert_eq!((&said[6]["hidden"], &said[6]["shown"]), (&json!(0), &json!(true)), "{}", said[6]);
    let said = [&said[..3], &said[7..]].concat();
    assert!(said[3]["after"].as_str().is_some_and(|url| url.contains("/login?next=audit")), "{said:?}");
    assert_eq!(said[3]["trouble"], json!([]), "no error of a script, nothing that the policy refused");
    assert_eq!(database.count("deliveries where state = 'delivered'").await, 157);
    assert_eq!(database.count("deliveries where state = 'dead'").await, 3);
    assert_eq!(receiver.received().len(), 160 + 156 + 1, "each was sent once more, and once only; the corrected one is new");
    console.stop().await;
}
