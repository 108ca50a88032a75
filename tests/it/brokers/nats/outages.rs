//! Servers and networks that break: what was under way is in doubt, what comes later is not, and nothing is stored twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use outboxd::domain::{Notification, Outcome, Reason, Verdict};
use outboxd::handlers::Handler;

use super::{assert_verdict, deliver, event, handler, publisher};
use crate::support::{Proxy, eventually, free_port, nats_server, nats_server_of};

/// Delivers until it is delivered, and says what came before.
async fn until_delivered(handler: &Arc<dyn Handler>, event: &Notification) -> Verdict {
    eventually("the event is delivered", || async { Some(deliver(handler, event).await).filter(Verdict::is_delivered) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_killed_while_acknowledgements_are_awaited_leaves_doubt_and_no_second_copy() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&[]).await;
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&format!("servers = [\"{url}\"]\nsubject = \"{stream}.{{type}}\"\nconfirm_timeout = \"14s\""));
    let delivered = AtomicUsize::new(0);
    // Each goes on until something happens to it, so that publishes are under way whenever the connection is killed.
    let lane = || async {
        loop {
            let event = event();
            let verdict = deliver(&handler, &event).await;
            if !verdict.is_delivered() {
                return (event, verdict);
            }
            delivered.fetch_add(1, Ordering::SeqCst);
        }
    };
    let killing = async {
        let count = || delivered.load(Ordering::SeqCst);
        eventually("many are delivered", || std::future::ready((count() >= 200).then_some(()))).await;
        // In the middle of an acknowledgement, so that there is one that was awaited.
        proxy.break_off_after(20);
    };
    let (broken, ()) = tokio::join!(join_all((0..20).map(|_| lane())), killing);

    assert!(broken.iter().any(|(_, verdict)| verdict.ambiguous), "{broken:?}");
    for (_, verdict) in &broken {
        assert_eq!(
            (verdict.outcome, verdict.ambiguous),
            (Outcome::Retry, verdict.reason == Reason::ConnectionReset),
            "{verdict:?}"
        );
    }
    proxy.heal();
    for (event, _) in &broken {
        until_delivered(&handler, event).await;
    }
    assert_eq!(server.read(&stream).await.len(), delivered.load(Ordering::SeqCst) + broken.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_frozen_leaves_doubt_and_the_next_connection_knows_the_duplicate() {
    let Some(server) = nats_server_of("", &[]).await else { return };
    let stream = server.stream(&[]).await;
    let (handler, event, later) =
        (publisher(&server, &stream, "confirm_timeout = \"300ms\"\nconnect_timeout = \"300ms\""), event(), event());
    assert_eq!(deliver(&handler, &super::event()).await, Verdict::delivered());

    server.service.freeze();
    let verdict = deliver(&handler, &event).await;
    assert_verdict(&verdict, Outcome::Retry, Reason::Timeout);
    assert!(verdict.ambiguous, "{verdict:?}");
    let verdict = deliver(&handler, &later).await;
    assert_verdict(&verdict, Outcome::Retry, Reason::ConnectTimeout);
    assert!(!verdict.ambiguous && verdict.reason.is_unreachable(), "{verdict:?}");
    server.service.thaw();

    assert_eq!(until_delivered(&handler, &event).await, Verdict::duplicate());
    assert_eq!(until_delivered(&handler, &later).await, Verdict::delivered());
    assert_eq!(server.read(&stream).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_forgets_the_connection_costs_one_doubt() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&[]).await;
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&format!("servers = [\"{url}\"]\nsubject = \"{stream}.{{type}}\"\nconfirm_timeout = \"300ms\""));
    assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
    proxy.forget();
    let verdict = deliver(&handler, &event()).await;
    assert_eq!((verdict.reason, verdict.ambiguous), (Reason::Timeout, true), "{verdict:?}");
    assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_broken_off_in_a_silent_network_does_not_hold_up_the_next() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&[]).await;
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = handler(&format!("servers = [\"{url}\"]\nsubject = \"{stream}.{{type}}\"\nconfirm_timeout = \"14s\""));
    assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
    proxy.forget();
    let broken_off = outboxd::relay::attempt(&*handler, &event(), std::time::Duration::from_millis(200)).await;
    assert_eq!((broken_off.reason, broken_off.ambiguous), (Reason::Timeout, true), "{broken_off:?}");
    assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_asked_when_one_is_away() {
    let Some(server) = nats_server().await else { return };
    let stream = server.stream(&[]).await;
    let away = free_port();
    for servers in [[format!("nats://127.0.0.1:{away}"), server.url()], [server.url(), format!("nats://127.0.0.1:{away}")]] {
        let handler = handler(&format!("servers = {servers:?}\nsubject = \"{stream}.{{type}}\""));
        assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
    }
    let nobody = handler(&format!("servers = [\"nats://127.0.0.1:{away}\"]\nsubject = \"x\""));
    let verdict = deliver(&nobody, &event()).await;
    assert_verdict(&verdict, Outcome::Retry, Reason::ConnectionRefused);
    assert!(!verdict.ambiguous, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_a_fault_and_says_so() {
    let Some(server) = nats_server_of("accounts { A: { users: [ { user: u, password: pw } ] } }", &[]).await else { return };
    let handler = publisher(&server, "x", "username = \"u\"\npassword = \"pw\"");
    assert_verdict(&deliver(&handler, &event()).await, Outcome::HandlerFault, Reason::Unroutable);
    let problem = handler.probe().await.expect_err("no JetStream");
    assert!(problem.contains("JetStream"), "{problem}");
}
