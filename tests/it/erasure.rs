//! `outboxd events erase`: what must be forgotten goes with everything that is known of it, beside a running relay.

use std::time::Duration;

use outboxd::{Reason, Verdict};
use serde_json::{Value, json};

use crate::support::{Binary, Finished, NewRow, Recorder, TestDatabase, eventually, number, quick_handler, relay};

async fn erase(database: &TestDatabase, arguments: &[&str]) -> Finished {
    let all =
        [&["events", "erase", "--because", "request 4711"], arguments, &["--json", "--database-url", database.url()]].concat();
    Binary::with_config("").run(&all).await
}

fn document(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// Of customer 1: 1 delivered, 2 dead, 3 retrying in an hour, 4 waiting behind it. Of customer 2: 5, delivered.
async fn scene() -> (TestDatabase, Recorder, outboxd::EmbeddedRelay) {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|notification, _| match number(notification) {
        2 => Verdict::permanent(Reason::Refused, "never"),
        3 => Verdict::retry(Reason::Failed, "later").not_before(Some(Duration::from_secs(3600))),
        _ => Verdict::delivered(),
    });
    let running = relay(&database).configured_handler("one", recorder.handler(), quick_handler).start().expect("the relay starts");
    let row = |n: i64, customer: i64| {
        NewRow::new(if n == 5 { "customer.left" } else { "customer.came" }).of("customer", customer).payload(json!({ "n": n }))
    };
    for (n, customer) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2)] {
        database.insert_event(row(n, customer)).await;
    }
    eventually("all are where they belong", || async {
        let states = ["delivered", "dead", "retrying", "waiting"];
        for (state, count) in states.iter().zip([2, 1, 1, 1]) {
            if database.count(&format!("deliveries where state = '{state}'")).await != count {
                return None;
            }
        }
        Some(())
    })
    .await;
    (database, recorder, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_are_shown_first_and_go_with_all_that_is_known_of_them() {
    let (database, recorder, running) = scene().await;
    let shown = erase(&database, &["--key", "customer/1", "--dry-run"]).await;
    let report = document(&shown);
    assert_eq!(shown.code, Some(0));
    assert_eq!(
        report,
        json!({ "dry_run": true, "matched": 4, "unfinished": 2, "sourced": 0, "pending": [{ "handler": "one", "events": 2 }], "erased": null })
    );
    assert_eq!(database.count("events").await, 5);

    // What is not delivered yet is named and stays.
    let first = erase(&database, &["--key", "customer/1", "--yes"]).await;
    assert_eq!((first.code, &document(&first)["erased"]), (Some(1), &json!(2)), "{first:?}");
    assert!(first.stderr.contains("2 to one") && first.stderr.contains("--include-pending"), "{}", first.stderr);
    assert_eq!(database.count("events where aggregate_id = '1'").await, 2);
    assert_eq!(database.count("deliveries where state = 'dead'").await, 0);

    let rest = erase(&database, &["--key", "customer/1", "--yes", "--include-pending"]).await;
    assert_eq!((rest.code, &document(&rest)["erased"]), (Some(0), &json!(2)), "{rest:?}");
    assert_eq!(database.count("events where aggregate_id = '1'").await, 0);
    assert_eq!(database.count("deliveries d where not exists (select from events e where e.seq = d.seq)").await, 0);
    assert_eq!(database.count("attempts").await, 0);
    assert_eq!(database.count("audit where action = 'erase' and reason = 'request 4711' and affected = 2").await, 2);

    // The key goes on, and nothing of another key was touched.
    database.insert_event(NewRow::new("customer.came").of("customer", 1).payload(json!({ "n": 6 }))).await;
    recorder.wait_for(3).await;
    let mut received = recorder.numbers();
    received.sort_unstable();
    assert_eq!(received, [1, 5, 6]);
    running.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_chosen_by_id_type_and_time_and_everything_given_must_match() {
    let database = TestDatabase::create().await;
    let ids = database.insert_events(["a.x", "a.y", "b.x"].map(NewRow::new)).await;
    database.execute("update events set occurred_at = '2020-01-01' where type = 'a.y'").await;
    let matched =
        async |arguments: &[&str]| document(&erase(&database, &[arguments, &["--dry-run"]].concat()).await)["matched"].clone();
    let (first, last) = (ids[0].to_string(), ids[2].to_string());
    assert_eq!(matched(&["--type", "a.*"]).await, 2);
    assert_eq!(matched(&["--type", "a.*", "--before", "2021-01-01T00:00:00Z"]).await, 1);
    assert_eq!(matched(&["--since", "1h"]).await, 2);
    assert_eq!(matched(&["--id", &first, "--id", &last]).await, 2);
    assert_eq!(matched(&["--id", &first, "--type", "b.*"]).await, 0);
    let nothing = erase(&database, &["--type", "c", "--yes"]).await;
    assert!(nothing.code == Some(0) && nothing.stderr.contains("nothing to erase"), "{nothing:?}");
    let all = erase(&database, &[]).await;
    assert_ne!(all.code, Some(0), "without a choice nothing is erased: {all:?}");
    let unasked = erase(&database, &["--type", "a.*"]).await;
    assert!(unasked.code == Some(64) && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(database.count("events").await, 3);
}
