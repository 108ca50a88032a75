//! TLS with a private authority that also asks clients who they are.

use outboxd::domain::{Outcome, Reason};
use serde_json::json;

use super::server::shared;
use super::{Place, deliver, handler, meaning, settings};
use crate::conformance::numbered;
use crate::support::Authority;

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_have_to_be_trusted() {
    let Some(server) = shared().await else { return };
    let place = Place::make(server, "#", json!({})).await;
    let (known, stranger) = (&server.authority, Authority::new());
    let skipping = || "insecure_skip_verify = true\n".to_owned();
    for (what, more, is_trusted) in [
        ("a certificate of theirs", known.trusted() + &known.identity(), true),
        ("no certificate", known.trusted(), false),
        ("a certificate of somebody else", known.trusted() + &stranger.identity(), false),
        ("a server that the platform does not know", known.identity(), false),
        ("a server that somebody else knows", stranger.trusted() + &known.identity(), false),
        ("no verification at all", skipping() + &known.identity(), true),
    ] {
        let handler = handler(&(place.settings(&server.tls_url()) + &more));
        let verdict = deliver(&handler, &numbered("a", 1)).await;
        let want = match is_trusted {
            true => (Outcome::Delivered, Reason::Ok, false),
            false => (Outcome::HandlerFault, Reason::Untrusted, false),
        };
        assert_eq!(meaning(&verdict), want, "{what}: {verdict:?}");
        assert_eq!(handler.probe().await.is_ok(), is_trusted, "{what}");
    }
    assert_eq!(place.arrived(server).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_for_the_other_scheme_is_no_broker_and_says_so() {
    let Some(server) = shared().await else { return };
    let encrypted = handler(&settings(&server.url().replace("amqp:", "amqps:"), "x"));
    assert!(encrypted.probe().await.expect_err("no TLS there").contains("amqps needs a port where the broker speaks TLS"));
    let plain = handler(&settings(&server.tls_url().replace("amqps:", "amqp:"), "x"));
    for handler in [encrypted, plain] {
        let verdict = deliver(&handler, &numbered("a", 1)).await;
        assert_eq!((verdict.outcome, verdict.ambiguous), (Outcome::Retry, false), "{verdict:?}");
    }
}
