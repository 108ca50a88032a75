//! A broker, or the way to it, that goes away in the middle: nothing is lost, and what is in doubt is said to be.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use outboxd::domain::{Outcome, Reason, Verdict};

use super::{Mosquitto, deliver, handler};
use crate::conformance::numbered;
use crate::support::{Client, Proxy, eventually};

async fn wait_for_ids(reader: &Client, want: &BTreeSet<String>) {
    eventually("every event arrives", || {
        let ids: BTreeSet<String> =
            reader.received().iter().filter_map(|one| Some(one["properties"]["event-id"].as_str()?.to_owned())).collect();
        std::future::ready(ids.is_superset(want).then_some(()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_in_mid_publish_loses_nothing() {
    let Some(server) = Mosquitto::start("").await else { return };
    let reader = server.reader("#").await;
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&format!("url = \"{url}\"\ntopic = \"a/{{aggregate_id}}\""));
    let events: Vec<_> = (0..200).map(|number| numbered(&number.to_string(), number)).collect();
    assert!(deliver(&handler, &events[0]).await.is_delivered());

    proxy.swallow();
    let cutting = async {
        eventually("some are in flight", || async { (server.logged("Received PUBLISH") == 1).then_some(()) }).await;
        proxy.cut();
    };
    let (verdicts, ()) = tokio::join!(join_all(events.iter().map(|event| deliver(&handler, event))), cutting);
    assert!(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Retry), "{verdicts:?}");
    assert!(verdicts.iter().any(|verdict| verdict.reason == Reason::ConnectionReset && verdict.ambiguous), "{verdicts:?}");

    proxy.heal();
    for event in &events {
        eventually("it is delivered", || async { deliver(&handler, event).await.is_delivered().then_some(()) }).await;
    }
    wait_for_ids(&reader, &events.iter().map(|event| event.id.to_string()).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_freezes_is_given_up_and_what_it_had_is_ambiguous() {
    let Some(server) = Mosquitto::start("max_inflight_messages 5").await else { return };
    let reader = server.reader("#").await;
    let handler = handler(&server.settings("a", "confirm_timeout = \"1s\"\nconnect_timeout = \"1s\""));
    assert!(deliver(&handler, &numbered("a", 0)).await.is_delivered());
    server.freeze().await;
    let events: Vec<_> = (1..=20).map(|number| numbered(&number.to_string(), number)).collect();
    let verdicts = join_all(events.iter().map(|event| deliver(&handler, event))).await;
    let (sent, unsent): (Vec<&Verdict>, Vec<_>) = verdicts.iter().partition(|verdict| verdict.ambiguous);
    assert_eq!((sent.len(), unsent.len()), (5, 15), "only what it may have is in doubt: {verdicts:?}");
    assert!(sent.iter().all(|verdict| verdict.outcome == Outcome::Retry), "{sent:?}");
    assert!(sent.iter().any(|verdict| verdict.reason == Reason::Timeout), "{sent:?}");
    assert!(unsent.iter().all(|verdict| matches!(verdict.outcome, Outcome::Retry | Outcome::BackPressure)), "{unsent:?}");
    let verdict = deliver(&handler, &events[0]).await;
    assert!(verdict.reason == Reason::ConnectTimeout && !verdict.ambiguous, "a new connection was needed: {verdict:?}");

    server.thaw().await;
    for event in &events {
        eventually("it is delivered", || async { deliver(&handler, event).await.is_delivered().then_some(()) }).await;
    }
    wait_for_ids(&reader, &events.iter().map(|event| event.id.to_string()).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_a_firewall_forgot_is_noticed_by_the_first_event() {
    let Some(server) = Mosquitto::start("").await else { return };
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&format!("url = \"{url}\"\ntopic = \"a\"\nconfirm_timeout = \"500ms\""));
    assert!(deliver(&handler, &numbered("a", 0)).await.is_delivered());
    proxy.forget();
    let verdict = deliver(&handler, &numbered("a", 1)).await;
    assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, Reason::Timeout, true), "{verdict:?}");
    assert!(deliver(&handler, &numbered("a", 1)).await.is_delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_is_found_again_by_the_same_handler() {
    let Some(server) = Mosquitto::start("").await else { return };
    let handler = handler(&server.settings("a", ""));
    assert!(deliver(&handler, &numbered("a", 0)).await.is_delivered());
    server.stop().await;
    eventually("nobody is there any more", || async {
        let verdict = deliver(&handler, &numbered("a", 1)).await;
        assert_eq!(verdict.outcome, Outcome::Retry, "{verdict:?}");
        verdict.reason.is_unreachable().then_some(())
    })
    .await;
    let told = handler.probe().await.expect_err("it is away");
    assert!(told.contains("Connection refused"), "{told}");
    server.start_again().await;
    eventually("it is delivered", || async { deliver(&handler, &numbered("a", 1)).await.is_delivered().then_some(()) }).await;
}
