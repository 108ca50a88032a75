//! Values that Postgres refuses to store: the flush is written in parts, the row that is refused is a dead letter, everything else is
//! recorded once. The refusals are made with constraints and indexes of the test, which stand for any that we do not know.

use std::collections::BTreeSet;

use outboxd::domain::Timestamp;
use outboxd::domain::alerts::{Alert, AlertKind, AlertStatus, Sample, Severity};
use outboxd::store::alerts;
use uuid::Uuid;

use super::{insert, outcomes, stop, wait_for_rows};
use crate::support::{Answer, Binary, Receiver, TestDatabase, eventually};

fn webhook(url: &str, more: &str) -> String {
    format!(
        "[[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nurl = \"{url}\"\negress = \"any\"\n\
         circuit = {{ minimum = 1000 }}\n{more}\n"
    )
}

/// Every third event is answered in a way that the ledger refuses.
async fn refused_by(refusal: &str, answer: &'static [u8], reason: &str) {
    let database = TestDatabase::create().await;
    database.execute(refusal).await;
    let receiver = Receiver::answering(move |received| match received.json()["n"].as_u64().unwrap_or(0) % 3 {
        0 => Answer::status(500).body(answer),
        1 => Answer::status(500).body("busy"),
        _ => Answer::ok(),
    })
    .await;
    let running = Binary::relay(database.url(), &webhook(&receiver.url(), "retry = { schedule = [\"1h\"], max_attempts = 9 }"))
        .spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let mut ids: Vec<Uuid> = Vec::new();
    for n in 0..30 {
        ids.push(insert(&database, Some(&n.to_string()), &format!("{{\"n\":{n}}}"), "{}").await);
    }
    wait_for_rows(&database, "deliveries", 30).await;
    // Whatever was recorded wrongly would come again.
    wait_for_rows(&database, "subscriptions where high_seq >= 30 and window_seq is null", 1).await;

    let seen = outcomes(&database, "billing").await;
    for (n, id) in ids.iter().enumerate() {
        let (state, why, _, attempts) = &seen[id];
        let want = match n % 3 {
            0 if reason == "unstorable" => ("dead", Some("unstorable")),
            0 | 1 => ("retrying", Some("server_error")),
            _ => ("delivered", None),
        };
        assert_eq!((state.as_str(), why.as_deref(), *attempts), (want.0, want.1, 1), "{refusal}: event {n}");
    }
    let received: Vec<String> = receiver.received().iter().map(|request| request.id.clone()).collect();
    assert_eq!((received.len(), received.iter().collect::<BTreeSet<_>>().len()), (30, 30), "{refusal}: nothing is sent again");
    if reason == "unstorable" {
        running.wait_for_output("an outcome could not be stored").await;
        let told = "deliveries where reason = 'unstorable' and detail like '%SQLSTATE%' and fingerprint is not null";
        assert_eq!(database.count(told).await, 10);
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_postgres_refuses_is_a_dead_letter_and_the_rest_of_its_flush_is_recorded_once() {
    let constraint = "alter table outbox.deliveries add constraint polite check (state = 'dead' or detail is null or detail not like '%poison%')";
    refused_by(constraint, b"poison", "unstorable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_line_of_the_history_costs_its_detail_and_not_the_delivery() {
    let constraint = "alter table outbox.attempts add constraint polite check (detail is null or detail not like '%poison%')";
    refused_by(constraint, b"poison", "stored").await;
}

/// Data exceptions and program limits out of a trigger, as others hang theirs on our tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_any_class_about_data_is_narrowed_down_to_its_row() {
    for state in ["22001", "22P05", "23503", "54000"] {
        let trigger = format!(
            "create function outbox.refuse() returns trigger language plpgsql as $$
             begin
                 if new.detail like '%poison%' and new.state <> 'dead' then raise exception 'refused' using errcode = '{state}'; end if;
                 return new;
             end $$;
             create trigger refuse before insert or update on outbox.deliveries for each row execute function outbox.refuse()"
        );
        refused_by(&trigger, b"poison", "unstorable").await;
    }
}

/// The kind `sql` records in the transaction of its functions, which must go on: what they did stays, and only the row that is refused suffers.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_of_one_call_of_a_function_costs_the_others_of_its_batch_nothing() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "alter table outbox.deliveries add constraint polite check (state = 'dead' or detail is null or detail not like '%poison%');
             create schema app; create table app.entries (n integer not null);
             create function app.enter(id uuid, type text, key text, payload json, headers jsonb) returns void language plpgsql as $$
             begin
                 if (payload ->> 'n')::integer % 5 = 0 then raise exception 'poison'; end if;
                 if (payload ->> 'n')::integer % 5 = 1 then raise exception 'busy'; end if;
                 insert into app.entries values ((payload ->> 'n')::integer);
             end $$",
        )
        .await;
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(insert(&database, Some(&n.to_string()), &format!("{{\"n\":{n}}}"), "{}").await);
    }
    let handler = "[[handlers]]\nname = \"books\"\nkind = \"sql\"\nstart = \"beginning\"\nfunction = \"app.enter\"\n\
                   circuit = { minimum = 1000 }\nretry = { schedule = [\"1h\"], max_attempts = 9 }\n";
    let running = Binary::relay(database.url(), handler).spawn(&["run"]);
    wait_for_rows(&database, "deliveries where state in ('delivered', 'retrying', 'dead')", 50).await;
    let seen = outcomes(&database, "books").await;
    for (n, id) in ids.iter().enumerate() {
        let want = match n % 5 {
            0 => ("dead", Some("unstorable")),
            1 => ("retrying", None),
            _ => ("delivered", None),
        };
        let (state, reason, _, attempts) = &seen[id];
        assert_eq!((state.as_str(), *attempts), (want.0, 1), "event {n}: {reason:?}");
        assert_eq!(reason.as_deref() == Some("unstorable"), want.1.is_some(), "event {n}: {reason:?}");
    }
    let entries: Vec<i32> =
        sqlx::query_scalar("select n from app.entries order by n").fetch_all(database.pool()).await.expect("the entries");
    assert_eq!(entries, (0..50).filter(|n| n % 5 > 1).collect::<Vec<_>>(), "each once");
    stop(running).await;
}

/// The key of a refused head goes on: what waits behind it is not held for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_head_was_refused_goes_on() {
    let database = TestDatabase::create().await;
    database
        .execute("alter table outbox.deliveries add constraint polite check (state = 'dead' or detail is null or detail not like '%poison%')")
        .await;
    let receiver = Receiver::answering(|received| match received.json()["n"].as_u64() {
        Some(0) => Answer::status(500).body("poison"),
        _ => Answer::ok(),
    })
    .await;
    let running = Binary::relay(database.url(), &webhook(&receiver.url(), "")).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    for n in 0..6 {
        insert(&database, Some("one"), &format!("{{\"n\":{n}}}"), "{}").await;
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", 5).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'unstorable' and key = 'order/one'", 1).await;
    assert_eq!(receiver.received().len(), 6);
    stop(running).await;
}

/// A row that is there already, put there by hand or by a tool: the marker of the success meets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_meets_a_row_stops_no_flush() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|_| Answer::After(std::time::Duration::from_millis(500), Box::new(Answer::ok()))).await;
    let running = Binary::relay(database.url(), &webhook(&receiver.url(), "")).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    for n in 0..6 {
        insert(&database, Some(&n.to_string()), "{}", "{}").await;
    }
    receiver.wait_for(1).await;
    database
        .execute(
            "insert into outbox.deliveries (subscription, seq, state, attempts, detail, handled_at)
             select s.id, e.seq, 'discarded', 0, 'by hand', now() from outbox.subscriptions s, outbox.events e where e.aggregate_id = '3'",
        )
        .await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 5).await;
    wait_for_rows(&database, "subscriptions where high_seq >= 6", 1).await;
    assert_eq!((receiver.received().len(), database.count("deliveries where detail = 'by hand'").await), (6, 1));
    stop(running).await;
}

const ANSWERS: &[&[u8]] = &[
    b"",
    b"\0\0\0",
    b"{\"error\":\"\\u0000\"}",
    b"{\"error\":\"\\\\u0000 \\\\\"}",
    b"\xff\xfe\x00\xd8",
    b"\xed\xa0\x80\xed\xb0\x80",
    "\u{202e}\u{0}\u{fffe}\u{10ffff}".as_bytes(),
    b"\x1b[31m'; drop table outbox.events; --",
];

/// What a receiver answers reaches dead letters, groups and the alert that tells of them, whatever it is.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_any_bytes_reach_dead_letters_and_alerts() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|received| {
        let place = received.json()["n"].as_u64().unwrap_or(0) as usize;
        let long = "\u{0}ä\\u0000".repeat(20_000);
        Answer::status(400).body(ANSWERS.get(place).map_or(long.into_bytes(), |answer| answer.to_vec()))
    })
    .await;
    let config = format!("{}[alerts]\ninterval = \"1s\"\n", Binary::relay_config(database.url(), &webhook(&receiver.url(), "")));
    let binary = Binary::with_config(&config);
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    for n in 0..=ANSWERS.len() {
        insert(&database, Some(&n.to_string()), &format!("{{\"n\":{n}}}"), "{}").await;
        wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'client_error'", n as i64 + 1).await;
        // The newest dead letter is the sample of the alert, so each of the answers is stored there, too.
        eventually("the alert tells of it", || async {
            let told = format!("alerts where kind = 'dead_letters' and status = 'firing' and count = {}", n + 1);
            (database.count(&told).await == 1).then_some(())
        })
        .await;
    }
    assert!(!running.stderr().contains("could not look after the alerts"), "{}", running.stderr());
    for arguments in [&["dead-letters", "list", "--json"][..], &["dead-letters", "groups", "--json"], &["alerts", "list", "--json"]]
    {
        let finished = binary.run(arguments).await;
        serde_json::from_str::<serde_json::Value>(&finished.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {finished:?}"));
    }
    stop(running).await;
}

/// One alert whose text Postgres refuses must not keep the others from people.
#[tokio::test]
async fn an_alert_with_a_text_that_is_refused_is_stored_without_it() {
    let database = TestDatabase::create().await;
    database.execute("alter table outbox.alerts add constraint polite check (detail not like '%poison%')").await;
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let alert = |subject: &str, detail: &str| Alert {
        kind: AlertKind::DeadLetters,
        subject: subject.to_owned(),
        severity: Severity::Warning,
        status: AlertStatus::Firing,
        started_at: now,
        last_seen_at: now,
        changed_at: now,
        revision: 1,
        count: 1,
        age_seconds: None,
        detail: Some(detail.to_owned()),
        sample: Some(Sample {
            event: Uuid::nil(),
            event_type: "t".to_owned(),
            error: Some(format!("{detail} \0 \\u0000")),
            payload: None,
        }),
        told_count: 0,
        told_at: now,
        clear_since: None,
        snoozed_until: None,
        acknowledged_by: None,
    };
    let mut transaction = database.pool().begin().await.expect("begun");
    for alert in [alert("a", "fine \0"), alert("b", "poison"), alert("c", "fine")] {
        alerts::save(&mut transaction, &alert).await.expect("stored");
    }
    transaction.commit().await.expect("committed");
    assert_eq!(database.count("alerts").await, 3);
    assert_eq!(database.count("alerts where subject = 'b' and detail = 'its detail could not be stored'").await, 1);
    assert_eq!(database.count("alerts where sample->>'error' like '%\\u0000'").await, 2);
}
