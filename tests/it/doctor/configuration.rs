//! The configuration beside the database: each finding is mended by the lines that are printed for the configuration.

use serde_json::Value;

use super::{findings, fix, json};
use crate::support::{Binary, NewRow, TestDatabase, eventually};

/// The report with this configuration.
async fn examine(database: &TestDatabase, config: &str) -> Value {
    json(&binary(database, config).run(&["doctor", "--json", "--older-than", "1h"]).await)
}

fn binary(database: &TestDatabase, config: &str) -> Binary {
    Binary::with_config(&format!("[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n{config}", database.url()))
}

fn one(report: &Value, check: &str, word: &str) -> (String, String) {
    let found = findings(report, check, word);
    assert_eq!(found.len(), 1, "{check} {word}: {report:#}");
    let (place, text) = fix(found[0]);
    (place.to_owned(), text.to_owned())
}

/// Lets a relay with this configuration register its handlers.
async fn register(database: &TestDatabase, config: &str) {
    let relay = binary(database, config).spawn(&["run"]);
    relay.wait_for_output("relay started").await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_go_before_their_retries_are_over_are_found_and_kept() {
    let database = TestDatabase::create().await;
    let handler = "[[handlers]]\nname = \"h\"\nkind = \"discard\"\n";
    let report = examine(&database, &format!("[outbox]\nretention = \"1h\"\n{handler}")).await;
    let (place, lines) = one(&report, "retention", "handler h tries for up to 22h 33m");
    assert_eq!((place.as_str(), lines.as_str()), ("config", "[outbox]\nretention = \"23h\""));
    assert!(findings(&examine(&database, &format!("{lines}\n{handler}")).await, "retention", "").is_empty());
    let bounded = format!("[outbox]\nretention = \"1h\"\n{handler}retry = {{ max_age = \"50m\" }}");
    assert!(findings(&examine(&database, &bounded).await, "retention", "").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_shorter_than_an_attempt_is_found_where_two_relays_share_the_work() {
    let database = TestDatabase::create().await;
    let handlers = "[[handlers]]\nname = \"slow\"\nkind = \"discard\"\ntimeout = \"40s\"\n\
                    [[handlers]]\nname = \"inside\"\nkind = \"sql\"\nfunction = \"app.f\"\ntimeout = \"10m\"\n";
    let stop = "[relay]\ndrain_timeout = \"15m\"\n";
    database.execute("insert into instances (id, host, pid, version) values ('r1', 'h', 1, '0')").await;
    assert!(findings(&examine(&database, &format!("{stop}{handlers}")).await, "lease", "").is_empty());
    database.execute("insert into instances (id, host, pid, version) values ('r2', 'h', 2, '0')").await;
    let (place, lines) =
        one(&examine(&database, &format!("{stop}{handlers}")).await, "lease", "an attempt of handler slow may take 40s");
    assert_eq!((place.as_str(), lines.as_str()), ("config", "[relay]\nlease = \"41s\""));
    assert!(findings(&examine(&database, &format!("{lines}\ndrain_timeout = \"15m\"\n{handlers}")).await, "lease", "").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_the_database_knows_otherwise_are_found_and_mended() {
    let database = TestDatabase::create().await;
    let kept = "[[handlers]]\nname = \"kept\"\nkind = \"discard\"\n";
    register(&database, &format!("{kept}partitions = 2\n[[handlers]]\nname = \"old\"\nkind = \"discard\"\n")).await;
    let report = examine(&database, kept).await;
    let (place, command) = one(&report, "handlers", "handler old is in the database and not in the configuration");
    assert_eq!((place.as_str(), command.as_str()), ("shell", "outboxd handlers forget old"));
    let words: Vec<&str> = command.split(' ').skip(1).chain(["--yes"]).collect();
    assert_eq!(binary(&database, kept).run(&words).await.code, Some(0));
    let (place, lines) = one(&report, "handlers", "handler kept has 2 partitions in the database and 1 in the configuration");
    assert_eq!(place, "config");
    let mended = examine(&database, &format!("{lines}\nkind = \"discard\"")).await;
    assert!(findings(&mended, "handlers", "").is_empty(), "{mended:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_nobody_records_or_nobody_wants_are_found_and_mended() {
    let database = TestDatabase::create().await;
    database.insert_events(["order.placed", "order.placed", "stock.counted"].map(NewRow::new)).await;
    let wrong = "[[handlers]]\nname = \"billing\"\nkind = \"discard\"\nevents = [\"order.palced\"]\n";
    register(&database, wrong).await;
    let report = examine(&database, wrong).await;
    let (place, right) = one(&report, "event_types", "handler billing waits for order.palced");
    assert_eq!((place.as_str(), right.as_str()), ("config", "[[handlers]]\nname = \"billing\"\nevents = [\"order.placed\"]"));
    let right = format!("{right}\nkind = \"discard\"\n");
    register(&database, &right).await;
    let report = examine(&database, &right).await;
    assert!(findings(&report, "event_types", "billing").is_empty(), "{report:#}");
    let (place, discarding) = one(&report, "event_types", "no handler wants: stock.counted (1)");
    assert_eq!(place, "config");
    let both = format!("{right}{discarding}\n");
    register(&database, &both).await;
    let clean = || async { findings(&examine(&database, &both).await, "event_types", "").is_empty().then_some(()) };
    eventually("every type is wanted and recorded", clean).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_mistakes_is_told_as_that() {
    let finished = Binary::with_config("[relay]\nlease = 3").run(&["doctor"]).await;
    assert_eq!(finished.code, Some(64), "{finished:?}");
    assert!(finished.stderr.contains("relay.lease: got 3"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_receivers_that_go_before_their_events_are_found_and_kept() {
    let database = TestDatabase::create().await;
    let handler = "[[handlers]]\nname = \"h\"\nkind = \"discard\"\n";
    let config = |outbox: &str| format!("[outbox]\nretention = \"30d\"\n{outbox}\n{handler}");
    let short = config("inbox_retention = \"7d\"");
    assert!(findings(&examine(&database, &short).await, "inbox", "").is_empty(), "nobody keeps marks here");

    database.execute("insert into inbox values ('stock', 'shop', '1')").await;
    let (place, lines) = one(
        &examine(&database, &short).await,
        "inbox",
        "marks in the inbox are kept for 7d, but events can be delivered again for 30d",
    );
    assert_eq!((place.as_str(), lines.as_str()), ("config", "[outbox]\ninbox_retention = \"30d\""));
    assert!(findings(&examine(&database, &config(lines.trim_start_matches("[outbox]\n"))).await, "inbox", "").is_empty());

    database
        .execute("insert into outbox.events (type, payload, occurred_at) values ('t', '{}', now() - interval '100 days')")
        .await;
    let (_, lines) = one(&examine(&database, &config("inbox_retention = \"90d\"")).await, "inbox", "for 100d");
    assert_eq!(lines, "[outbox]\ninbox_retention = \"101d\"");
    let (_, lines) =
        one(&examine(&database, &format!("[outbox]\nretention = \"0s\"\n{handler}")).await, "inbox", "events stay for ever");
    assert_eq!(lines, "[outbox]\ninbox_retention = \"0s\"");
}
