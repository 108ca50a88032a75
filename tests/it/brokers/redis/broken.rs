//! Connections that break or go silent while an entry is on its way.

use std::sync::Arc;

use outboxd::domain::{Outcome, Reason, Verdict};
use outboxd::handlers::Handler;
use tokio::task::JoinHandle;

use super::expect;
use super::server::{RedisServer, a_stream, handler, shared};
use crate::conformance::numbered;
use crate::support::{Proxy, eventually};

fn deliver(handler: &Arc<dyn Handler>) -> JoinHandle<Verdict> {
    let handler = Arc::clone(handler);
    tokio::spawn(async move { handler.deliver(&numbered("a", 1)).await })
}

/// Waits until the server holds an entry that it has read and not yet executed.
async fn wait_for_an_entry_in_mid_air(server: &RedisServer) {
    eventually("the server holds the entry", || async {
        server.cli(&["info", "clients"]).await.contains("blocked_clients:1").then_some(())
    })
    .await;
}

fn assert_doubtful(verdict: &Verdict, reason: Reason) {
    assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, reason, true), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_in_mid_publish_leaves_doubt_and_is_replaced() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&url, "orders", "");
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    for by_server in [true, false] {
        server.must(&["client", "pause", "600000", "write"]).await;
        let delivery = deliver(&handler);
        wait_for_an_entry_in_mid_air(&server).await;
        if by_server {
            server.cli(&["client", "kill", "type", "normal"]).await;
        } else {
            proxy.cut();
        }
        assert_doubtful(&delivery.await.expect("no panic"), Reason::ConnectionReset);
        proxy.heal();
        server.must(&["client", "unpause"]).await;
        expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_leaves_doubt_and_the_entry_may_be_there_twice_under_one_id() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let handler = server.handler("orders", "confirm_timeout = \"300ms\"");
    let event = numbered("a", 1);
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    server.service.freeze();
    let verdict = handler.deliver(&event).await;
    assert_doubtful(&verdict, Reason::Timeout);
    assert_eq!(verdict.detail, format!("no answer from 127.0.0.1:{} within 300ms", server.port()));
    server.service.thaw();
    eventually("it is delivered after all", || async { handler.deliver(&event).await.is_delivered().then_some(()) }).await;
    let arrived = server.arrived("orders").await;
    let copies = arrived.iter().filter(|one| one.id == event.id.to_string()).count();
    assert!(copies >= 2 && copies == arrived.len() - 1, "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_a_firewall_forgot_costs_one_attempt() {
    let Some(server) = shared().await else { return };
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&url, &a_stream(), "confirm_timeout = \"300ms\"");
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    proxy.forget();
    assert_doubtful(&handler.deliver(&numbered("a", 1)).await, Reason::Timeout);
    eventually("a new connection works", || async { handler.deliver(&numbered("a", 1)).await.is_delivered().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_with_a_script_asks_for_patience() {
    let Some(server) = RedisServer::start(&["--busy-reply-threshold", "5"]).await else { return };
    let handler = server.handler("orders", "");
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    let script = async {
        server.cli(&["eval", "while true do end", "0"]).await;
    };
    let delivering = async {
        let verdict = eventually("it is busy", || async {
            let verdict = handler.deliver(&numbered("a", 1)).await;
            (!verdict.is_delivered()).then_some(verdict)
        })
        .await;
        assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::BackPressure, Reason::ServerError, false));
        assert!(verdict.detail.contains("BUSY"), "{verdict:?}");
        server.must(&["script", "kill"]).await;
    };
    tokio::join!(script, delivering);
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
}
