//! Replicas: waited for, missing, and taken for a primary.

use outboxd::domain::{Outcome, Reason};

use super::expect;
use super::server::RedisServer;
use crate::support::eventually;

/// A primary and its replica, connected.
async fn pair() -> Option<(RedisServer, RedisServer)> {
    let primary = RedisServer::start(&[]).await?;
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &primary.port().to_string()]).await?;
    wait_for_replica(&primary).await;
    Some((primary, replica))
}

async fn wait_for_replica(primary: &RedisServer) {
    eventually("the replica is connected", || async {
        primary.cli(&["info", "replication"]).await.contains("state=online").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_waits_for_the_replica_and_is_doubtful_without_it() {
    let Some((primary, mut replica)) = pair().await else { return };
    let handler = primary.handler("orders", "wait_replicas = 1\nwait_timeout = \"200ms\"");
    // The replica acknowledges once a second by itself, and at once when it is asked.
    eventually("the replica acknowledges", || async {
        let verdict = handler.deliver(&crate::conformance::numbered("a", 1)).await;
        verdict.is_delivered().then_some(())
    })
    .await;
    let before = primary.length("orders").await;
    assert_eq!(replica.length("orders").await, before, "it has what was confirmed");
    replica.service.freeze();
    let verdict = expect(&*handler, Outcome::Retry, Reason::Nacked).await;
    assert!(
        verdict.ambiguous && verdict.detail.ends_with("the entry was added, but 0 of 1 replicas have it after 200ms"),
        "{verdict:?}"
    );
    assert_eq!(primary.length("orders").await, before + 1);
    replica.service.thaw();
    eventually("the replica is back", || async {
        handler.deliver(&crate::conformance::numbered("a", 1)).await.is_delivered().then_some(())
    })
    .await;
    replica.service.stop().await;
    eventually("the loss is noticed before anything is added", || async {
        let verdict = handler.deliver(&crate::conformance::numbered("a", 1)).await;
        (verdict.outcome == Outcome::BackPressure).then_some(())
    })
    .await;
    let before = primary.length("orders").await;
    let verdict = expect(&*handler, Outcome::BackPressure, Reason::Nacked).await;
    assert!(!verdict.ambiguous && verdict.detail.ends_with("0 of 1 replicas are connected, so no entry was added"), "{verdict:?}");
    assert!(handler.probe().await.expect_err("nothing would be delivered").contains("0 of 1 replicas"));
    assert_eq!(primary.length("orders").await, before);
    replica.service.start_again().await;
    wait_for_replica(&primary).await;
    eventually("it goes on", || async {
        handler.deliver(&crate::conformance::numbered("a", 1)).await.is_delivered().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_replicas_and_has_none_adds_nothing() {
    let Some(server) = RedisServer::start(&["--min-replicas-to-write", "1"]).await else { return };
    let handler = server.handler("orders", "");
    let verdict = expect(&*handler, Outcome::BackPressure, Reason::Nacked).await;
    assert!(!verdict.ambiguous && verdict.detail.contains("NOREPLICAS"), "{verdict:?}");
    server.must(&["config", "set", "min-replicas-to-write", "0"]).await;
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    assert_eq!(server.length("orders").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_gets_no_entries_not_even_one_that_would_take_them() {
    let Some((primary, replica)) = pair().await else { return };
    for read_only in ["yes", "no"] {
        replica.must(&["config", "set", "replica-read-only", read_only]).await;
        let handler = replica.handler("orders", "wait_replicas = 1");
        let verdict = expect(&*handler, Outcome::Retry, Reason::ServerError).await;
        assert!(!verdict.ambiguous && verdict.detail.contains("is a replica"), "{verdict:?}");
        assert!(handler.probe().await.expect_err("no entries are taken").contains("is a replica"));
    }
    assert_eq!((primary.length("orders").await, replica.length("orders").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_becomes_a_replica_is_left_and_found_again() {
    let Some((server, other)) = pair().await else { return };
    let handler = server.handler("orders", "");
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    other.must(&["replicaof", "no", "one"]).await;
    server.must(&["replicaof", "127.0.0.1", &other.port().to_string()]).await;
    let verdict = expect(&*handler, Outcome::Retry, Reason::ServerError).await;
    assert!(!verdict.ambiguous && verdict.detail.contains("READONLY"), "{verdict:?}");
    server.must(&["replicaof", "no", "one"]).await;
    eventually("it is a primary again", || async {
        handler.deliver(&crate::conformance::numbered("a", 1)).await.is_delivered().then_some(())
    })
    .await;
}
