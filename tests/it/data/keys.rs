//! Ordering keys out of hostile payloads and headers, for every kind of handler that can be had without a broker.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{insert, outcomes, stop, wait_for_rows};
use crate::support::{Answer, Binary, Receiver, TestDatabase};

/// What a payload has at `customer`.
#[derive(Clone, Copy, PartialEq)]
enum Customer {
    Is(&'static str),
    /// No text can hold it.
    NoText,
    Absent,
}

use Customer::{Absent, Is, NoText};

const HOSTILE: &[(&str, Customer)] = &[
    (r#"{"customer":"b","note":"x\u0000"}"#, Is("b")),
    (r#"{"customer":"b\u0000","note":"x"}"#, NoText),
    (r#"{"customer":"\u0000"}"#, NoText),
    (r#"{"customer":"b\\u0000","note":"x\u0000"}"#, Is("b\\u0000")),
    (r#"{"customer":"b\\\u0000"}"#, NoText),
    (r#"{"customer":"b","note":"\ud83d"}"#, Is("b")),
    (r#"{"customer":"b","note":"\uDE00 and \uD83D"}"#, Is("b")),
    (r#"{"customer":"b\ud83d\ude00","note":"\ud83d"}"#, Is("b\u{1f600}")),
    (r#"{"customer":"b\ud83d","note":"x"}"#, NoText),
    (r#"{"customer":"b\ude00"}"#, NoText),
    (r#"{"customer":"b\ud83d\ud83d\ude00"}"#, NoText),
    (r#"{"customer":"b","\u0000":1,"x\udead":{"y":["\u0000"]}}"#, Is("b")),
    (r#"{"customer":"\ue000","note":"\u0000"}"#, Is("\u{e000}")),
    ("{\"customer\":\"\u{e000}\",\"note\":\"\\u0000\"}", Is("\u{e000}")),
    (r#"{"customer":{"name":"b"},"note":"\u0000"}"#, Is(r#"{"name":"b"}"#)),
    (r#"{"customer":{"name":"\u0000"}}"#, NoText),
    (r#"{"customer":1e200000,"note":"\u0000"}"#, Is("1e200000")),
    (r#"{"customer":-0.1E-999999}"#, Is("-0.1E-999999")),
    (r#"{"customer":null,"note":"\u0000"}"#, Absent),
    (r#"{"note":"\u0000","customer":"a","customer":"b"}"#, Is("b")),
    (r#"{"other":"\u0000"}"#, Absent),
    ("{\"customer\":\"b\u{7f}\u{1}\",\"note\":\"\u{fffe}\"}", Is("b\u{7f}\u{1}")),
    (r#"{"customer":"b\u0001\n","note":"x"}"#, Is("b\u{1}\n")),
];

fn handler(name: &str, settings: &str) -> String {
    format!(
        "[[handlers]]\nname = \"{name}\"\n{settings}\nretry = {{ schedule = [\"10ms\"], max_attempts = 2 }}\ncircuit = {{ minimum = 1000 }}\n"
    )
}

fn webhook(name: &str, url: &str, more: &str) -> String {
    handler(name, &format!("kind = \"webhook\"\nurl = \"{url}\"\negress = \"any\"\n{more}"))
}

/// Raw control characters are no JSON: what a table can hold is what the server takes.
fn is_json(payload: &str) -> bool {
    !payload.contains(|c: char| c < ' ')
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_whose_key_cannot_be_taken_is_a_dead_letter_and_all_others_flow() {
    let database = TestDatabase::create().await;
    let good = Receiver::start().await;
    let broken =
        Receiver::answering(|_| Answer::status(500).body(b"\x00\xff\xfe\xed\xa0\x80 {\"\\u0000\": \"\\\\u0000\"}".to_vec())).await;
    let keyed = "key = \"payload:customer\"";
    let handlers = [
        handler("discards", &format!("kind = \"discard\"\n{keyed}")),
        handler("parts", &format!("kind = \"discard\"\n{keyed}\npartitions = 3")),
        handler("by-aggregate", "kind = \"discard\""),
        handler("by-header", "kind = \"discard\"\nkey = \"header:tenant\""),
        handler("in-no-order", "kind = \"discard\"\nordering = \"none\""),
        handler("runs", &format!("kind = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat > /dev/null\"]\n{keyed}")),
        webhook("good", &good.url(), keyed),
        webhook("broken", &broken.url(), keyed),
    ];
    let running = Binary::relay(database.url(), &handlers.concat()).spawn(&["run"]);
    running.wait_for_output("relay started").await;

    let mut hostile: BTreeMap<Uuid, (&str, Customer)> = BTreeMap::new();
    let mut healthy: BTreeMap<Uuid, String> = BTreeMap::new();
    let rows: Vec<_> = HOSTILE.iter().filter(|(payload, _)| is_json(payload)).collect();
    for (number, (payload, customer)) in rows.iter().enumerate() {
        hostile.insert(insert(&database, Some("b"), payload, r#"{"tenant":"t"}"#).await, (*payload, *customer));
        for n in 0..5 {
            let payload = format!("{{\"customer\":\"{}\",\"n\":{n}}}", ["b", "c", "d\\u00e9"][n % 3]);
            healthy.insert(insert(&database, Some(&format!("{number}-{n}")), &payload, "{}").await, payload);
        }
    }
    let count = (hostile.len() + healthy.len()) as i64;
    // Rows there are for every event at every handler, at last.
    wait_for_rows(&database, "deliveries where state in ('delivered', 'dead')", 8 * count).await;

    for name in ["discards", "parts", "runs", "good"] {
        let seen = outcomes(&database, name).await;
        assert!(healthy.keys().all(|id| seen[id].0 == "delivered"), "{name}");
        for (id, (payload, customer)) in &hostile {
            let (state, reason, key, attempts) = &seen[id];
            if *customer == NoText {
                assert_eq!((state.as_str(), reason.as_deref(), *attempts), ("dead", Some("unreadable"), 0), "{name}: {payload}");
                assert_eq!(*key, None);
            } else {
                assert_eq!(state, "delivered", "{name}: {payload}");
            }
        }
    }
    for name in ["by-aggregate", "by-header", "in-no-order"] {
        assert!(outcomes(&database, name).await.values().all(|(state, ..)| state == "delivered"), "{name} looks into no payload");
    }
    // The receiver that answers 500 and any bytes: everything is tried twice, and then dead for what it answered.
    for (id, (state, reason, key, attempts)) in outcomes(&database, "broken").await {
        assert_eq!(state, "dead");
        match hostile.get(&id) {
            Some((payload, NoText)) => assert_eq!((reason.as_deref(), attempts), (Some("unreadable"), 0), "{payload}"),
            Some((payload, Is(customer))) => {
                assert_eq!((reason.as_deref(), attempts, key.as_deref()), (Some("exhausted"), 2, Some(*customer)), "{payload}");
            }
            _ => assert_eq!((reason.as_deref(), attempts), (Some("exhausted"), 2)),
        }
    }
    let unreadable = hostile.values().filter(|(_, customer)| *customer == NoText).count();
    for (receiver, times) in [(&good, 1), (&broken, 2)] {
        let received = receiver.received();
        assert_eq!(received.len(), times * (count as usize - unreadable), "nothing is sent once more than it should be");
        for request in received {
            let id: Uuid = request.id.parse().expect("an id");
            let sent = healthy.get(&id).map(String::as_str).or_else(|| hostile.get(&id).map(|(payload, _)| *payload));
            assert_eq!(String::from_utf8_lossy(request.body()), sent.expect("one of ours"), "byte for byte");
        }
    }
    stop(running).await;
}

/// A dead letter without a key is a decision for a person: a replay sends it, in no order with anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_readable_key_is_shown_with_its_cause_and_sent_by_a_replay() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let binary = Binary::relay(
        database.url(),
        &webhook("billing", &receiver.url(), "key = \"payload:customer\"\non_dead_letter = \"hold_key\""),
    );
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let payload = r#"{"customer":"b\u0000"}"#;
    let id = insert(&database, Some("b"), payload, "{}").await;
    wait_for_rows(&database, "deliveries where state = 'dead'", 1).await;

    let shown = binary.run(&["dead-letters", "show", &id.to_string()]).await;
    assert!(shown.stdout.contains("payload:customer"), "{}{}", shown.stdout, shown.stderr);
    for arguments in [
        &["dead-letters", "list", "--reason", "unreadable", "--json"][..],
        &["dead-letters", "groups", "--json"],
        &["dead-letters", "export"],
        &["events", "show", &id.to_string(), "--json"],
        &["events", "list", "--json"],
        &["status", "--json"],
        &["keys", "list", "--json"],
        &["handlers", "list", "--json"],
    ] {
        let finished = binary.run(arguments).await;
        assert!(matches!(finished.code, Some(0..=2)) && !finished.stderr.contains("could not"), "{arguments:?}: {finished:?}");
    }
    running.wait_for_output(&id.to_string()).await;
    stop(running).await;

    // A new owner leaves it as it is, and a replay sends it byte for byte.
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let replayed = binary.run(&["replay", "--id", &id.to_string(), "--yes"]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let received = receiver.wait_for(1).await;
    assert_eq!((received.len(), received[0].body()), (1, payload.as_bytes()));
    wait_for_rows(&database, "deliveries where state = 'delivered'", 1).await;
    stop(running).await;
}

/// Deeper than the sessions of the relay can parse, though not too deep for those of the application.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_nested_too_deeply_for_its_key_stops_nobody() {
    let database = TestDatabase::create().await;
    let name = database.url().rsplit('/').next().expect("an address has a path").to_owned();
    let deep = format!("{{\"customer\":\"b\",\"deep\":{}{}}}", "[".repeat(3_000), "]".repeat(3_000));
    let id = insert(&database, Some("a"), &deep, "{}").await;
    database.execute(&format!("alter database \"{name}\" set max_stack_depth = '100kB'")).await;
    let handlers = [
        handler("keyed", "kind = \"discard\"\nkey = \"payload:customer\"\nstart = \"beginning\""),
        handler("unkeyed", "kind = \"discard\"\nstart = \"beginning\""),
    ];
    let running = Binary::relay(database.url(), &handlers.concat()).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    for n in 0..5 {
        insert(&database, Some(&n.to_string()), "{\"customer\":\"b\"}", "{}").await;
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", 5 + 6).await;
    assert_eq!(outcomes(&database, "keyed").await[&id].1.as_deref(), Some("unreadable"));
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_values_are_keys_and_keep_the_other_headers() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let running = Binary::relay(database.url(), &webhook("hook", &receiver.url(), "key = \"header:tenant\"")).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let deep = format!("{{\"tenant\":\"t\",\"deep\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let long = format!("{{\"tenant\":\"{}\"}}", "ä".repeat(5_000));
    let values = [
        r#"{"tenant":1e400}"#,
        r#"{"tenant":null}"#,
        r#"{"tenant":{"a":[1,2]}}"#,
        r#"{"tenant":true,"x":123456789012345678901234567890.5}"#,
        r#"{"":"empty","tenant":""}"#,
        r#"{"tenant":"line\nbreak \u0001 \u202e"}"#,
        deep.as_str(),
        long.as_str(),
    ];
    for headers in values {
        insert(&database, Some("a"), "{}", headers).await;
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", values.len() as i64).await;
    assert_eq!(receiver.received().len(), values.len());
    stop(running).await;
}
