//! TLS with a CA of one's own, with and without a client certificate.

use std::sync::Arc;

use outboxd::domain::{Outcome, Reason};

use super::{Mosquitto, deliver, handler};
use crate::conformance::numbered;
use crate::support::Authority;

/// A mosquitto with a certificate for 127.0.0.1; with `clients`, only for those that the authority issued a certificate to.
async fn secure(authority: &Authority, clients: bool) -> Option<Mosquitto> {
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let (certificate, key) = authority.issue("127.0.0.1");
    for (name, text) in [("ca.pem", authority.pem()), ("cert.pem", certificate), ("key.pem", key)] {
        std::fs::write(directory.path().join(name), text).expect("the folder is ours");
    }
    let folder = directory.path().display().to_string();
    let lines = format!(
        "allow_anonymous true\ncafile {folder}/ca.pem\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem\nrequire_certificate {clients}"
    );
    Mosquitto::start_in(directory, &lines).await
}

fn settings(server: &Mosquitto, more: &str) -> String {
    server.settings("a", more).replace("mqtt://", "mqtts://")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_ca_is_trusted_where_it_is_configured_and_nowhere_else() {
    let (authority, other) = (Authority::new(), Authority::new());
    let Some(server) = secure(&authority, false).await else { return };
    let trusting = handler(&settings(&server, &authority.trusted()));
    assert!(deliver(&trusting, &numbered("a", 1)).await.is_delivered());
    assert!(trusting.probe().await.is_ok());
    let careless = handler(&settings(&server, "insecure_skip_verify = true"));
    assert!(deliver(&careless, &numbered("a", 1)).await.is_delivered());

    for trust in [other.trusted(), String::new()] {
        let wary = handler(&settings(&server, &trust));
        let verdict = deliver(&wary, &numbered("a", 1)).await;
        let got = (verdict.outcome, verdict.reason, verdict.ambiguous);
        assert_eq!(got, (Outcome::HandlerFault, Reason::Untrusted, false), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_identifies_the_relay() {
    let (authority, other) = (Authority::new(), Authority::new());
    let Some(server) = secure(&authority, true).await else { return };
    let known = handler(&settings(&server, &format!("{}{}", authority.trusted(), authority.identity())));
    assert!(deliver(&known, &numbered("a", 1)).await.is_delivered());
    for identity in [String::new(), other.identity()] {
        let unknown = handler(&settings(&server, &format!("{}{identity}", authority.trusted())));
        let verdict = deliver(&unknown, &numbered("a", 1)).await;
        let got = (verdict.outcome, verdict.reason, verdict.ambiguous);
        assert_eq!(got, (Outcome::HandlerFault, Reason::Untrusted, false), "{verdict:?}");
        assert!(unknown.probe().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_tls_fails_the_handshake_and_one_with_tls_is_no_plain_one() {
    let Some(plain) = Mosquitto::start("").await else { return };
    let verdict = deliver(&handler(&settings(&plain, "insecure_skip_verify = true")), &numbered("a", 1)).await;
    assert!(verdict.outcome == Outcome::Retry && !verdict.ambiguous, "{verdict:?}");

    let Some(encrypted) = secure(&Authority::new(), false).await else { return };
    let verdict = deliver(&handler(&encrypted.settings("a", "")), &numbered("a", 1)).await;
    assert!(verdict.outcome == Outcome::Retry && !verdict.ambiguous, "{verdict:?}");
}
