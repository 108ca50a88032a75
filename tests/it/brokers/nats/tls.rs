//! TLS: a CA of one's own, client certificates, and what a broken trust looks like.

use std::sync::Arc;

use outboxd::domain::{Outcome, Reason, Verdict};
use outboxd::handlers::Handler;

use super::{assert_verdict, deliver, event, handler};
use crate::support::{Authority, NatsServer, nats_server_of};

/// A server under a certificate of this authority, which with `verify` wants one of its clients as well.
async fn secure_server(authority: &Authority, verify: bool) -> Option<NatsServer> {
    let ((certificate, key), (client, client_key)) = (authority.issue("127.0.0.1"), authority.issue("reader"));
    let files = [
        ("ca.pem", authority.pem()),
        ("server.pem", certificate),
        ("server.key", key),
        ("client.pem", client),
        ("client.key", client_key),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let more = format!("tls {{ cert_file: \"server.pem\", key_file: \"server.key\", ca_file: \"ca.pem\", verify: {verify} }}");
    let mut server = nats_server_of(&more, &files).await?;
    let path = |name: &str| server.service.directory().join(name).display().to_string();
    let files = format!("ca={}&cert={}&key={}", path("ca.pem"), path("client.pem"), path("client.key"));
    server.client_url = format!("tls://{}?{files}", server.service.address());
    Some(server)
}

fn publisher(server: &NatsServer, scheme: &str, stream: &str, more: &str) -> Arc<dyn Handler> {
    handler(&format!("servers = [\"{scheme}://{}\"]\nsubject = \"{stream}.{{type}}\"\n{more}", server.service.address()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_ca_is_trusted_when_it_is_named_and_only_then() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let Some(server) = secure_server(&ours, false).await else { return };
    let stream = server.stream(&[]).await;
    assert_eq!(deliver(&publisher(&server, "tls", &stream, &ours.trusted()), &event()).await, Verdict::delivered());
    for more in [foreign.trusted(), String::new()] {
        let verdict = deliver(&publisher(&server, "tls", &stream, &more), &event()).await;
        assert_verdict(&verdict, Outcome::HandlerFault, Reason::Untrusted);
        assert!(!verdict.ambiguous, "{verdict:?}");
    }
    let unsuspecting = deliver(&publisher(&server, "nats", &stream, ""), &event()).await;
    assert_verdict(&unsuspecting, Outcome::HandlerFault, Reason::Untrusted);
    assert!(unsuspecting.detail.ends_with("the server wants TLS: write tls:// in servers"), "{}", unsuspecting.detail);
    let blind = publisher(&server, "tls", &stream, "insecure_skip_verify = true");
    assert_eq!(deliver(&blind, &event()).await, Verdict::delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_a_certificate_of_ours_gets_it() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let Some(server) = secure_server(&ours, true).await else { return };
    let stream = server.stream(&[]).await;
    let with = |authority: &Authority| {
        let (certificate, key) = authority.issue("relay");
        format!("{}client_certificate = '''{certificate}'''\nclient_key = '''{key}'''\n", ours.trusted())
    };
    assert_eq!(deliver(&publisher(&server, "tls", &stream, &with(&ours)), &event()).await, Verdict::delivered());
    for more in [ours.trusted(), with(&foreign)] {
        let refused = publisher(&server, "tls", &stream, &more);
        assert_verdict(&deliver(&refused, &event()).await, Outcome::HandlerFault, Reason::Untrusted);
        assert!(refused.probe().await.is_err());
    }
    assert_eq!(server.read(&stream).await.len(), 1);
}
