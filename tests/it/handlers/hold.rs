//! Holding: a pause that outlives restarts, and a circuit that a person closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outboxd::{Reason, Verdict};

use super::{insert, migrated, outboxd, outboxd_json};
use crate::support::{Recorder, eventually, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_handler_holds_its_events_over_a_restart_and_skips_none() {
    let (database, paused, other) = (migrated().await, Recorder::new(), Recorder::new());
    let start = || {
        let builder = relay(&database).handler("billing", &[], paused.handler()).handler("other", &[], other.handler());
        builder.start().expect("the relay starts")
    };
    let first = start();
    insert(&database, 1, 5).await;
    paused.wait_for(5).await;
    outboxd_json(&database, &["handlers", "pause", "billing", "--because", "they are moving"]).await;
    eventually("the relay has heard of it", || async {
        // It begins nothing once a later event has come to the other handler and not to this one.
        let seen = other.delivered().len();
        insert(&database, 100, 100).await;
        other.wait_for(seen + 1).await;
        (paused.delivered().len() < seen).then_some(())
    })
    .await;
    let (held, told) = (paused.delivered().len(), other.delivered().len());
    first.stop().await.expect("the relay stops");

    let second = start();
    insert(&database, 200, 220).await;
    other.wait_for(told + 21).await;
    assert_eq!(paused.delivered().len(), held, "not even those that were there when it started");
    outboxd_json(&database, &["handlers", "resume", "billing"]).await;
    paused.wait_for(told + 21).await;
    second.stop().await.expect("the relay stops");

    let sorted = |recorder: &Recorder| {
        let mut ids: Vec<_> = recorder.delivered().iter().map(|notification| notification.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(&paused), sorted(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_a_person_closes_lets_deliveries_go_on_at_once() {
    let database = migrated().await;
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let recorder = Recorder::answering(move |_, _| match down.load(Ordering::SeqCst) {
        true => Verdict::handler_fault(Reason::Unauthorized, "who are you?"),
        false => Verdict::delivered(),
    });
    let relay = relay(&database)
        .configured_handler("billing", recorder.handler(), |config| {
            // Longer than any test: without a person no probe would go out.
            config.circuit.first_probe = std::time::Duration::from_secs(3600);
            config.circuit.max_probe = std::time::Duration::from_secs(3600);
        })
        .start()
        .expect("the relay starts");
    insert(&database, 1, 20).await;
    eventually("the circuit is open", || async {
        (database.count("subscriptions where circuit = 'open'").await == 1).then_some(())
    })
    .await;
    is_down.store(false, Ordering::SeqCst);

    let done = outboxd_json(&database, &["handlers", "circuit", "close", "billing", "--because", "new token"]).await;
    assert_eq!((&done["changed"], &done["handler"]["open_circuits"]), (&true.into(), &0.into()));
    recorder.wait_for(20).await;
    eventually("it stays closed", || async {
        (database.count("subscriptions where circuit = 'closed'").await == 1
            && database.count("deliveries where state = 'delivered'").await == 20)
            .then_some(())
    })
    .await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(database.count("audit where action = 'close circuit' and actor = 'ada' and reason = 'new token'").await, 1);
    let again = outboxd(&database, &["handlers", "circuit", "close", "billing"]).await;
    assert!(again.code == Some(0) && again.stderr.contains("no circuit of billing is open"), "{again:?}");
    assert_eq!(database.count("audit where action = 'close circuit'").await, 1);
}
