//! A handler under another name, with other partitions, another filter, or gone: what is pending is told before, and nothing of it is
//! lost, repeated or out of order afterwards.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::{insert, migrated, outboxd, outboxd_json};
use crate::support::{Answer, Binary, Receiver, TestDatabase, eventually};

fn webhook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n{more}\n", receiver.url())
}

/// A relay that has delivered ten events and has stopped, with nine more behind it.
async fn with_nine_pending(database: &TestDatabase, receiver: &Receiver, handlers: &str) -> (Vec<Uuid>, Vec<Uuid>) {
    let relay = Binary::relay(database.url(), handlers).spawn(&["run"]);
    eventually("the relay owns its handler", || async {
        (database.count("subscriptions where owner is not null and epoch > 1").await > 0).then_some(())
    })
    .await;
    let before = insert(database, 1, 10).await;
    receiver.wait_for(10).await;
    relay.terminate();
    relay.finish().await;
    (before, insert(database, 11, 19).await)
}

#[tokio::test]
async fn forgetting_a_handler_first_counts_what_is_pending_in_the_log() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    with_nine_pending(&database, &receiver, &webhook("invoicing", &receiver, "")).await;

    let dry = outboxd(&database, &["handlers", "forget", "invoicing", "--dry-run", "--json"]).await;
    let document: Value = serde_json::from_str(&dry.stdout).unwrap_or_else(|error| panic!("{error}: {dry:?}"));
    assert_eq!((&document["unfinished"]["pending"], &document["changed"]), (&9.into(), &false.into()), "{document}");
    assert_eq!(document["unfinished"]["types"][0]["type"], "order.placed");
    assert!(dry.stderr.contains("9 pending events (9 order.placed)"), "{dry:?}");
    assert_eq!(database.count("subscriptions").await, 1);

    let done = outboxd(&database, &["handlers", "forget", "invoicing", "--yes", "--because", "gone"]).await;
    assert!(done.code == Some(0) && done.stderr.contains("9 pending events"), "{done:?}");
    assert_eq!(database.count("audit where action = 'forget' and reason = 'gone'").await, 1);
}

#[tokio::test]
async fn a_renamed_handler_goes_on_where_it_was_and_the_check_says_how() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let (_, pending) = with_nine_pending(&database, &receiver, &webhook("invoicing", &receiver, "")).await;
    database.execute("update outbox.audit set handler = 'invoicing'; insert into outbox.dead_letter_notes (actor, handler, fingerprint, text) values ('ada', 'invoicing', 1, 'x')").await;
    let renamed = Binary::relay(database.url(), &webhook("billing", &receiver, ""));

    let checked = renamed.run(&["check", "--connect"]).await;
    assert!(checked.stdout.contains("it leaves 9 pending events (9 order.placed)"), "{checked:?}");
    assert!(
        checked.stdout.contains("begins at now") && checked.stdout.contains("outboxd handlers rename invoicing billing"),
        "{checked:?}"
    );

    let dry = outboxd_json(&database, &["handlers", "rename", "invoicing", "billing", "--dry-run"]).await;
    assert_eq!((&dry["changed"], &dry["unfinished"]["pending"]), (&false.into(), &9.into()));
    let done =
        outboxd_json(&database, &["handlers", "rename", "invoicing", "billing", "--yes", "--because", "a better name"]).await;
    assert_eq!(done["changed"], true);
    let checked = renamed.run(&["check", "--connect"]).await;
    assert!(!checked.stdout.contains("note  "), "{checked:?}");

    let _relay = renamed.spawn(&["run"]);
    let received = receiver.wait_for(19).await;
    let mut got: Vec<String> = received[10..].iter().map(|request| request.id.clone()).collect();
    let mut want: Vec<String> = pending.iter().map(ToString::to_string).collect();
    got.sort_unstable();
    want.sort_unstable();
    assert_eq!(got, want, "what was pending, and nothing twice");
    eventually("all are recorded", || async { (database.count("deliveries where state = 'delivered'").await == 19).then_some(()) })
        .await;
    assert_eq!(database.count("dead_letter_notes where handler = 'billing'").await, 1);
    assert_eq!(database.count("audit where handler = 'billing' and action = 'rename' and reason = 'a better name'").await, 1);
}

#[tokio::test]
async fn a_rename_is_refused_while_a_relay_serves_the_handler_or_the_name_is_taken() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let both = [webhook("invoicing", &receiver, ""), webhook("billing", &receiver, "")].concat();
    let relay = Binary::relay(database.url(), &both).spawn(&["run"]);
    eventually("the relay owns both", || async {
        (database.count("subscriptions where owner is not null and epoch > 1").await == 2).then_some(())
    })
    .await;
    for command in
        [&["handlers", "rename", "invoicing", "other", "--yes"][..], &["handlers", "repartition", "invoicing", "2", "--yes"]]
    {
        let refused = outboxd(&database, command).await;
        assert!(refused.code == Some(1) && refused.stderr.contains("take it out of the configuration"), "{refused:?}");
    }
    relay.terminate();
    relay.finish().await;
    let taken = outboxd(&database, &["handlers", "rename", "invoicing", "billing", "--yes"]).await;
    assert!(taken.code == Some(64) && taken.stderr.contains("the handler \"billing\" exists already"), "{taken:?}");
    let wrong = outboxd(&database, &["handlers", "rename", "invoicing", "a b", "--yes"]).await;
    assert!(wrong.code != Some(0) && wrong.stderr.contains("letters, digits"), "{wrong:?}");
    assert_eq!(database.count("subscriptions where handler in ('invoicing', 'billing')").await, 2);
}

// A relay that lost its lease for a while, because it was frozen, remembers the old name. It must not serve the handler under it.
#[tokio::test]
async fn a_relay_that_remembers_the_old_name_does_not_take_the_renamed_handler() {
    let (database, old, new) = (migrated().await, Receiver::start().await, Receiver::start().await);
    let handlers = [webhook("invoicing", &old, ""), webhook("other", &old, "events = [\"nothing\"]")].concat();
    let relay = Binary::relay(database.url(), &handlers).spawn(&["run"]);
    eventually("the relay owns both", || async {
        (database.count("subscriptions where owner is not null and epoch > 1").await == 2).then_some(())
    })
    .await;
    relay.freeze();
    eventually("its leases have ended", || async {
        (database.count("subscriptions where lease_until < clock_timestamp()").await == 2).then_some(())
    })
    .await;
    outboxd_json(&database, &["handlers", "rename", "invoicing", "billing", "--yes"]).await;
    relay.thaw();
    eventually("it has gone on", || async {
        (database.count("subscriptions where handler = 'other' and lease_until > clock_timestamp()").await == 1).then_some(())
    })
    .await;
    insert(&database, 1, 5).await;
    let second = Binary::relay(database.url(), &webhook("billing", &new, "")).spawn(&["run"]);
    new.wait_for(5).await;
    assert_eq!(old.received().len(), 0, "{}", relay.stderr());
    drop(second);
}

#[tokio::test]
async fn a_narrower_filter_says_what_it_drops_and_other_partitions_are_refused_by_the_check_as_by_run() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    with_nine_pending(&database, &receiver, &webhook("billing", &receiver, "partitions = 2")).await;
    database.insert_event(crate::support::NewRow::new("order.cancelled").of("order", 1)).await;

    for filter in ["events = [\"order.cancelled\"]", "aggregate_types = [\"cart\"]", "where_headers = { tenant = \"a\" }"] {
        let narrowed = Binary::relay(database.url(), &webhook("billing", &receiver, &format!("partitions = 2\n{filter}")));
        let checked = narrowed.run(&["check", "--connect"]).await;
        let dropped =
            if filter.starts_with("events") { "drops 9 of its 10 pending events (9 order.placed)" } else { "drops 10 of its 10" };
        assert!(checked.code == Some(0) && checked.stdout.contains(dropped), "{filter}: {checked:?}");
    }
    for (more, command) in [
        ("partitions = 3", "outboxd handlers repartition billing 3"),
        ("partitions = 2\nkey = \"header:tenant\"", "outboxd handlers repartition billing 2 --ordering-key header:tenant"),
    ] {
        let binary = Binary::relay(database.url(), &webhook("billing", &receiver, more));
        let checked = binary.run(&["check", "--connect"]).await;
        assert!(checked.code != Some(0) && checked.stdout.contains(command), "{checked:?}");
        let run = binary.run(&["run"]).await;
        assert!(run.code != Some(0) && run.stderr.contains(command), "{run:?}");
    }
}

#[tokio::test]
async fn a_reload_says_what_it_does_to_what_is_pending() {
    let (database, receiver) = (migrated().await, Receiver::answering(|_| Answer::status(503)).await);
    let config = |name: &str, more: &str| {
        Binary::relay_config(
            database.url(),
            &[webhook(name, &receiver, more), webhook("other", &receiver, "events = [\"x\"]")].concat(),
        )
    };
    let binary = Binary::with_config(&config("invoicing", ""));
    let _relay = binary.spawn(&["run"]);
    eventually("the relay owns both", || async {
        (database.count("subscriptions where owner is not null and epoch > 1").await == 2).then_some(())
    })
    .await;
    outboxd_json(&database, &["handlers", "pause", "invoicing", "--because", "test"]).await;
    eventually("the relay knows of the pause", || async {
        let finished = outboxd(&database, &["status", "--json"]).await;
        finished.stdout.contains("\"paused\"").then_some(())
    })
    .await;
    insert(&database, 1, 9).await;

    binary.rewrite(&config("invoicing", "events = [\"order.cancelled\"]"));
    let narrowed = binary.run(&["reload", "--json"]).await;
    binary.rewrite(&config("billing3", ""));
    let renamed = binary.run(&["reload"]).await;

    assert!(narrowed.stdout.contains("drops 9 of its 9 pending events (9 order.placed)"), "{narrowed:?}");
    assert!(renamed.stdout.contains("billing3 is new and begins at now"), "{renamed:?}");
    assert!(renamed.stdout.contains("invoicing is in the database and not in the configuration; it leaves"), "{renamed:?}");
}

/// What one relay with some partitions left behind is finished by one with others: each event once, in the order of its key.
async fn repartitioned(from: u16, to: u16, record: &str, key: Option<&str>) {
    let database = migrated().await;
    let failing = |number: i64| number % 5 == 3;
    let n = |received: &crate::support::Received| received.json()["n"].as_i64().unwrap_or(-1);
    let receiver = Receiver::answering(move |request| match n(request) {
        number if failing(number) => Answer::status(500),
        _ => Answer::ok(),
    })
    .await;
    let config = |partitions: u16, key: Option<&str>| {
        let key = key.map(|key| format!("key = \"{key}\"\n")).unwrap_or_default();
        let more = format!(
            "partitions = {partitions}\nrecord = \"{record}\"\n{key}retry = {{ base = \"100ms\", factor = 1.0, max_delay = \"100ms\", max_attempts = 1000 }}\n\
             max_parked = 4\ncircuit = {{ failure_rate = 1.0, minimum = 1000 }}"
        );
        Binary::relay_config(database.url(), &webhook("a", &receiver, &more))
    };
    let relay = Binary::with_config(&config(from, None)).spawn(&["run"]);
    eventually("the relay owns its partitions", || async {
        (database.count("subscriptions where owner is not null and epoch > 1").await == i64::from(from)).then_some(())
    })
    .await;
    let first: Vec<Uuid> = insert(&database, 0, 99).await;
    let answered = |number: i64| !failing(number);
    // The partition of the failing key stops reading at `max_parked`; the others go on. So their positions differ, as they do in a bad hour.
    eventually("some are delivered and some wait", || async {
        let delivered = receiver.received().iter().filter(|request| answered(n(request))).count();
        (delivered >= 10 && database.count("deliveries where state = 'waiting'").await > 0).then_some(())
    })
    .await;
    relay.terminate();
    relay.finish().await;
    let second: Vec<Uuid> = insert(&database, 100, 149).await;
    let before = receiver.received();
    let delivered: HashSet<&str> =
        before.iter().filter(|request| answered(n(request))).map(|request| request.id.as_str()).collect();

    let to_text = to.to_string();
    let mut command = vec!["handlers", "repartition", "a", &to_text, "--yes"];
    command.extend(key.iter().flat_map(|key| ["--ordering-key", *key]));
    let dry = outboxd_json(&database, &[&command[..], &["--dry-run"]].concat()).await;
    assert_eq!((&dry["changed"], &dry["from"]), (&false.into(), &from.into()));
    assert_eq!(database.count("subscriptions").await, i64::from(from));
    let done = outboxd_json(&database, &command).await;
    assert_eq!((&done["changed"], &done["pending"]), (&true.into(), &dry["pending"]), "{done}");
    assert_eq!(database.count("subscriptions").await, i64::from(to));
    assert_eq!(database.count("deliveries where subscription not in (select id from subscriptions)").await, 0);

    receiver.answer_with(|_| Answer::ok());
    let _relay = Binary::with_config(&config(to, key)).spawn(&["run"]);
    let left = 150 - delivered.len();
    receiver.wait_for(before.len() + left).await;
    eventually("all is recorded", || async {
        let status = outboxd(&database, &["status", "--json"]).await;
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        let handler = &status["handlers"][0];
        (handler["pending"] == 0 && handler["retrying"] == 0 && handler["waiting"] == 0).then_some(())
    })
    .await;
    let after = receiver.received().split_off(before.len());
    let numbers: HashMap<String, i64> = first.iter().chain(&second).map(ToString::to_string).zip(0..).collect();
    let mut seen = HashSet::new();
    let mut last: HashMap<i64, i64> = HashMap::new();
    for request in &after {
        let number = numbers[&request.id];
        assert!(!delivered.contains(request.id.as_str()) && seen.insert(request.id.clone()), "{number} was delivered twice");
        let previous = last.insert(number % 5, number).unwrap_or(-1);
        assert!(previous < number || key.is_some(), "{number} came after {previous} of the same key");
    }
    assert_eq!(seen.len(), left);
}

#[tokio::test]
async fn more_partitions_lose_repeat_and_reorder_nothing() {
    repartitioned(1, 3, "all", None).await;
    repartitioned(2, 3, "failures", None).await;
}

#[tokio::test]
async fn fewer_partitions_lose_repeat_and_reorder_nothing() {
    repartitioned(4, 2, "all", None).await;
    repartitioned(3, 1, "failures", None).await;
}

// With partitions, another key moves an event to another partition, which may have passed it: it would never be delivered.
#[tokio::test]
async fn another_ordering_key_loses_and_repeats_nothing() {
    repartitioned(2, 2, "failures", Some("payload:key")).await;
}
