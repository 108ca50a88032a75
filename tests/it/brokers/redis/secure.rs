//! TLS of a real server: a CA of one's own, client certificates, and what broken trust looks like.

use std::sync::Arc;

use outboxd::domain::{Outcome, Reason};
use outboxd::handlers::Handler;
use tempfile::TempDir;

use super::expect;
use super::server::{RedisServer, a_stream, handler, shared};
use crate::support::{Authority, free_port};

/// A server with a certificate for `name`; `clients`: whom it wants a certificate of.
async fn secure_server(authority: &Authority, name: &str, clients: Option<&Authority>) -> Option<(RedisServer, String)> {
    let directory = Arc::new(TempDir::new().expect("a temporary directory"));
    let (certificate, key) = authority.issue(name);
    let ca = clients.unwrap_or(authority).pem();
    for (file, pem) in [("server.pem", certificate), ("server.key", key), ("ca.pem", ca)] {
        std::fs::write(directory.path().join(file), pem).expect("the folder is ours");
    }
    let port = free_port().to_string();
    let wanted = if clients.is_some() { "yes" } else { "no" };
    let mut arguments = vec!["--tls-port", &port, "--tls-cert-file", "server.pem", "--tls-key-file", "server.key"];
    arguments.extend(["--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", wanted]);
    let server = RedisServer::start_in(directory, &arguments).await?;
    Some((server, format!("rediss://127.0.0.1:{port}")))
}

async fn assert_untrusted(handler: &dyn Handler) {
    let verdict = expect(handler, Outcome::HandlerFault, Reason::Untrusted).await;
    assert!(!verdict.ambiguous, "{verdict:?}");
    handler.probe().await.expect_err("a probe must not say that all is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_server_gets_entries() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let Some((server, url)) = secure_server(&authority, "127.0.0.1", None).await else { return };
    expect(&*handler(&url, "orders", &authority.trusted()), Outcome::Delivered, Reason::Ok).await;
    assert_untrusted(&*handler(&url, "orders", &stranger.trusted())).await;
    assert_untrusted(&*handler(&url, "orders", "")).await;
    assert_untrusted(&*handler(&url.replace("127.0.0.1", "localhost"), "orders", &authority.trusted())).await;
    expect(&*handler(&url, "orders", "insecure_skip_verify = true"), Outcome::Delivered, Reason::Ok).await;
    assert_eq!(server.length("orders").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_identifies_the_relay() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let Some((server, url)) = secure_server(&authority, "127.0.0.1", Some(&clients)).await else { return };
    let trusted = authority.trusted();
    expect(&*handler(&url, "orders", &(trusted.clone() + &clients.identity())), Outcome::Delivered, Reason::Ok).await;
    assert_untrusted(&*handler(&url, "orders", &trusted)).await;
    assert_untrusted(&*handler(&url, "orders", &(trusted + &Authority::new().identity()))).await;
    assert_eq!(server.length("orders").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_fails_the_handshake_and_one_with_it_takes_nothing_in_the_open() {
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    let plain =
        handler(&server.url().replace("redis://", "rediss://"), &stream, "insecure_skip_verify = true\nconnect_timeout = \"1s\"");
    let verdict = plain.deliver(&crate::conformance::numbered("a", 1)).await;
    assert!(verdict.outcome == Outcome::Retry && verdict.reason.is_unreachable() && !verdict.ambiguous, "{verdict:?}");
    let Some((_secure, url)) = secure_server(&Authority::new(), "127.0.0.1", None).await else { return };
    let open = handler(&url.replace("rediss://", "redis://"), "orders", "connect_timeout = \"1s\"");
    let verdict = open.deliver(&crate::conformance::numbered("a", 1)).await;
    assert!(verdict.outcome == Outcome::Retry && !verdict.ambiguous, "{verdict:?}");
}
