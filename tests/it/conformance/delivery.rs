//! Against a receiver that works: each call delivers once, every attempt carries the same id, the order of a key is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use outboxd::domain::{Notification, Outcome, Reason};
use outboxd::handlers::{Built, Handler};
use outboxd::relay::attempt;

use super::{Arrived, Counterpart, build, counterparts, numbered};
use crate::support::eventually;

const TIMEOUT: Duration = Duration::from_secs(60);

fn handler(built: Built) -> Arc<dyn Handler> {
    match built {
        Built::Handler(handler) => handler,
        Built::Function(_) | Built::Projection(_) | Built::Publisher => {
            panic!("a function has no counterpart outside the database")
        }
    }
}

async fn wait_for(counterpart: &dyn Counterpart, kind: &str, ids: usize) -> Vec<Arrived> {
    eventually(&format!("{kind}: {ids} events arrive"), || async {
        let arrived = counterpart.arrived().await;
        let seen: BTreeSet<&String> = arrived.iter().map(|one| &one.id).collect();
        (seen.len() >= ids).then_some(arrived)
    })
    .await
}

fn as_sent(notification: &Notification) -> Arrived {
    Arrived { id: notification.id.to_string(), body: notification.payload.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_delivers_each_call_once_in_the_order_of_its_key() {
    const KEYS: u64 = 8;
    const EVENTS: u64 = 25;
    for (kind, counterpart) in counterparts().await {
        let handler = handler(build(kind, &counterpart.settings()));
        let keys = (0..KEYS).map(|key| {
            let handler = Arc::clone(&handler);
            async move {
                let events: Vec<_> = (0..EVENTS).map(|number| numbered(&key.to_string(), key * EVENTS + number)).collect();
                for event in &events {
                    let verdict = attempt(&*handler, event, TIMEOUT).await;
                    assert_eq!(verdict.outcome, Outcome::Delivered, "{}: {verdict:?}", kind.name);
                }
                events
            }
        });
        let sent = join_all(keys).await;
        let arrived = wait_for(&*counterpart, kind.name, (KEYS * EVENTS) as usize).await;
        assert_eq!(arrived.len() as u64, KEYS * EVENTS, "{}: each once", kind.name);
        for events in sent {
            let want: Vec<Arrived> = events.iter().map(as_sent).collect();
            let got: Vec<Arrived> = arrived.iter().filter(|one| want.contains(one)).cloned().collect();
            assert_eq!(got, want, "{}: the order of a key", kind.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_gives_every_attempt_the_same_id_and_the_same_bytes() {
    for (kind, counterpart) in counterparts().await {
        let handler = handler(build(kind, &counterpart.settings()));
        let first = numbered("a", 1);
        let again = Notification { attempt: 2, ..first.clone() };
        for event in [&first, &again] {
            let verdict = attempt(&*handler, event, TIMEOUT).await;
            assert!(verdict.is_delivered(), "{}: {verdict:?}", kind.name);
        }
        let marker = numbered("a", 2);
        assert!(attempt(&*handler, &marker, TIMEOUT).await.is_delivered(), "{}", kind.name);
        let mut copies: BTreeMap<String, Vec<Arrived>> = BTreeMap::new();
        for one in wait_for(&*counterpart, kind.name, 2).await {
            copies.entry(one.id.clone()).or_default().push(one);
        }
        let twice = &copies[&first.id.to_string()];
        assert!(twice.len() <= 2 && twice.iter().all(|one| *one == as_sent(&first)), "{}: {twice:?}", kind.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_buries_what_is_larger_than_its_bound_and_sends_nothing() {
    for (kind, counterpart) in counterparts().await {
        let handler = handler(build(kind, &format!("{}\nmax_payload = \"1KiB\"", counterpart.settings())));
        let event = Notification { payload: format!("{{\"x\":\"{}\"}}", "x".repeat(2_000)), ..numbered("a", 1) };
        let verdict = attempt(&*handler, &event, TIMEOUT).await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::TooLarge), "{}: {verdict:?}", kind.name);
        assert_eq!(counterpart.arrived().await, [], "{}", kind.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_survives_that_deliveries_are_broken_off_anywhere() {
    for (kind, counterpart) in counterparts().await {
        let handler = handler(build(kind, &counterpart.settings()));
        let events: Vec<_> = (0..60).map(|number| numbered(&number.to_string(), number)).collect();
        for (number, event) in events.iter().enumerate() {
            let _ = tokio::time::timeout(Duration::from_micros(50 * number as u64), handler.deliver(event)).await;
        }
        // Whoever was broken off may have arrived or not; a further attempt always does.
        for event in &events {
            let verdict = attempt(&*handler, event, TIMEOUT).await;
            assert!(verdict.is_delivered(), "{}: {verdict:?}", kind.name);
        }
        let arrived = wait_for(&*counterpart, kind.name, events.len()).await;
        for event in &events {
            let copies = arrived.iter().filter(|one| **one == as_sent(event)).count();
            assert!((1..=2).contains(&copies), "{}: {copies} copies", kind.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_takes_a_group_as_it_takes_each_of_it() {
    for (kind, counterpart) in counterparts().await {
        let handler = handler(build(kind, &format!("{}\nmax_payload = \"1KiB\"", counterpart.settings())));
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(2_000));
        let group: Vec<_> = (0..handler.largest_group().max(5) as u64)
            .map(|number| match number {
                2 => Notification { payload: large.clone(), ..numbered("2", 2) },
                _ => numbered(&number.to_string(), number),
            })
            .collect();
        let verdicts = handler.deliver_all(group.iter().collect()).await;
        let outcomes: Vec<_> = verdicts.iter().map(|verdict| verdict.outcome).collect();
        let want = |number| if number == 2 { Outcome::Permanent } else { Outcome::Delivered };
        assert_eq!(outcomes, (0..group.len()).map(want).collect::<Vec<_>>(), "{}", kind.name);
        let mut arrived = wait_for(&*counterpart, kind.name, group.len() - 1).await;
        let mut sent: Vec<_> = group.iter().filter(|event| event.payload.len() < 1_000).map(as_sent).collect();
        arrived.sort_by(|one, other| one.id.cmp(&other.id));
        sent.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(arrived, sent, "{}: each once", kind.name);
    }
}
