//! Limits of the broker: those it tells, those it does not, and how one event that breaks them must not take others with it.

use futures_util::future::join_all;
use outboxd::domain::{Notification, Outcome, Reason, Verdict};
use serde_json::json;

use super::{Mosquitto, deliver, deliver_many, handler};
use crate::conformance::numbered;
use crate::support::{Binary, Client, NewRow, TestDatabase, eventually};

fn large(bytes: usize, number: u64) -> Notification {
    Notification { payload: format!("{{\"x\":\"{}\"}}", "x".repeat(bytes)), ..numbered("large", number) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_above_the_limit_that_the_broker_told_is_a_dead_letter_and_never_sent() {
    let Some(server) = Mosquitto::start("max_packet_size 5000").await else { return };
    let handler = handler(&server.settings("a", ""));
    let verdict = deliver(&handler, &large(6_000, 1)).await;
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::TooLarge), "{verdict:?}");
    // Up to the last byte: what the handler measured is what the broker measures.
    let rest = verdict.detail.split(" has ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it tells the size");
    let above = rest.parse::<usize>().expect("a number") - 5_000;
    assert!(deliver(&handler, &large(6_000 - above, 2)).await.is_delivered());
    assert_eq!(deliver(&handler, &large(6_001 - above, 3)).await.reason, Reason::TooLarge);
    assert_eq!(server.logged("as outboxd-tried-"), 1, "the session was never lost");
}

// Mosquitto refuses a payload above message_size_limit with a code that MQTT does not have for an acknowledgement, which ends the session.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_above_a_limit_that_nobody_told_is_found_among_the_others() {
    let Some(server) = Mosquitto::start("message_size_limit 2000").await else { return };
    for qos in [1, 2] {
        let topic = format!("{qos}");
        let reader = server.reader(&topic).await;
        let handler = handler(&server.settings(&topic, &format!("qos = {qos}")));
        let alone = deliver(&handler, &large(3_000, 1)).await;
        assert_eq!((alone.outcome, alone.reason), (Outcome::Permanent, Reason::TooLarge), "nobody else can be meant: {alone:?}");

        let events: Vec<_> = (0..30).map(|number| if number == 7 { large(3_000, 7) } else { numbered("a", number) }).collect();
        assert!(deliver(&handler, &numbered("a", 100)).await.is_delivered(), "now there is a session for all of them");
        let (mut left, mut buried) = (events.clone(), None);
        // Whoever is in flight with it is in doubt once; then it is sent alone, and the answer is about it.
        for round in 1..=3 {
            let verdicts = join_all(left.iter().map(|event| deliver(&handler, event))).await;
            let judged = left.into_iter().zip(verdicts);
            let (done, retried): (Vec<_>, Vec<_>) = judged.partition(|(_, verdict)| verdict.outcome != Outcome::Retry);
            for (event, verdict) in done.into_iter().filter(|(_, verdict)| !verdict.is_delivered()) {
                assert_eq!((verdict.outcome, verdict.reason, verdict.status), (Outcome::Permanent, Reason::TooLarge, Some(0x95)));
                assert!(buried.replace(event.id).is_none() && event.id == events[7].id, "round {round}: {verdict:?}");
            }
            assert!(retried.iter().all(|(_, verdict)| verdict.reason == Reason::ConnectionReset), "{retried:?}");
            left = retried.into_iter().map(|(event, _)| event).collect();
        }
        assert!(left.is_empty() && buried.is_some(), "{left:?}");
        eventually("all but the large one arrive", || {
            let received = reader.received();
            let has = |event: &Notification| received.iter().any(|one| one["properties"]["event-id"] == event.id.to_string());
            let all = events.iter().enumerate().all(|(number, event)| has(event) == (number != 7));
            std::future::ready(all.then_some(()))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_buries_the_large_event_alone_and_says_why() {
    let Some(server) = Mosquitto::start("message_size_limit 2000").await else { return };
    let reader: Client = server.reader("#").await;
    let database = TestDatabase::create().await;
    let settings = server.settings("{aggregate_id}", "retry = { base = \"20ms\", max_delay = \"20ms\", max_attempts = 3 }");
    let relay =
        Binary::relay(database.url(), &format!("[[handlers]]\nname = \"far\"\nkind = \"mqtt\"\n{settings}\n")).spawn(&["run"]);
    let payload = |number: i64| if number == 20 { json!({ "n": number, "x": "x".repeat(3_000) }) } else { json!({ "n": number }) };
    database.insert_events((0..200).map(|number| NewRow::new("a").of("a", number).payload(payload(number)))).await;
    // Seen: four others had become dead letters, most of them never sent.
    eventually("all others are delivered, and none has paid for it", || async {
        (database.count("deliveries where state = 'delivered' and attempts = 1").await == 199).then_some(())
    })
    .await;
    eventually("the large one is a dead letter", || async {
        (database.count("deliveries where state = 'dead' and reason = 'too_large'").await == 1).then_some(())
    })
    .await;
    assert!(reader.wait_for(199).await.iter().all(|one| one["topic"] != "20"));
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_one_event_at_a_time_gets_one_at_a_time() {
    let Some(server) = Mosquitto::start("max_inflight_messages 1").await else { return };
    let reader = server.reader("a").await;
    let handler = handler(&server.settings("a", "confirm_timeout = \"14s\""));
    assert!(deliver_many(&handler, 100).await.iter().all(Verdict::is_delivered));
    assert_eq!(reader.wait_for(100).await.len(), 100);
}

// What docs/handlers.md warns of: nothing in the protocol would let us notice.
#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_drops_what_a_full_queue_of_a_reader_cannot_hold_and_acknowledges_it() {
    let Some(server) = Mosquitto::start("max_queued_messages 1\nmax_inflight_messages 1").await else { return };
    drop(server.reader("a").await);
    eventually("the reader is away", || async { (server.logged("closed its connection") >= 1).then_some(()) }).await;
    let handler = handler(&server.settings("a", "require_subscriber = true"));
    assert!(deliver_many(&handler, 20).await.iter().all(Verdict::is_delivered));
    assert!(server.logged("Outgoing messages are being dropped") >= 1);
}
