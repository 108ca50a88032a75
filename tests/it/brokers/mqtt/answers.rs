//! What the broker says, and what is made of it: credentials, rights, nobody there.

use std::sync::Arc;

use outboxd::domain::{Outcome, Reason, Verdict};
use serde_json::json;

use super::server::write_passwords;
use super::{Mosquitto, deliver, deliver_many, handler};
use crate::conformance::numbered;
use crate::support::{Binary, Client, NewRow, TestDatabase, eventually};

/// Knows `relay` with the password `s3cr3t-word`, which may write below `open/` only.
async fn guarded() -> Option<Mosquitto> {
    let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let (passwords, rights) = (directory.path().join("passwords"), directory.path().join("rights"));
    write_passwords(&passwords, &[("relay", "s3cr3t-word"), ("reader", "other-word")]);
    std::fs::write(&rights, "user relay\ntopic write open/#\nuser reader\ntopic read #\n").expect("the folder is ours");
    let lines = format!("allow_anonymous false\npassword_file {}\nacl_file {}", passwords.display(), rights.display());
    Mosquitto::start_in(directory, &lines).await
}

fn as_relay(password: &str) -> String {
    format!("username = \"relay\"\npassword = \"{password}\"")
}

fn is(verdict: &Verdict, outcome: Outcome, reason: Reason) -> bool {
    (verdict.outcome, verdict.reason, verdict.ambiguous) == (outcome, reason, false)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_a_fault_of_the_handler_and_not_told() {
    let Some(server) = guarded().await else { return };
    let wrong = handler(&server.settings("open/a", &as_relay("wr0ng-word")));
    let verdict = deliver(&wrong, &numbered("a", 1)).await;
    assert!(is(&verdict, Outcome::HandlerFault, Reason::Unauthorized), "{verdict:?}");
    let told = wrong.probe().await.expect_err("it cannot connect");
    assert!(told.contains("not authorized") && !format!("{told}{verdict:?}{}", verdict.detail).contains("wr0ng-word"), "{told}");

    let nobody = handler(&server.settings("open/a", ""));
    assert!(is(&deliver(&nobody, &numbered("a", 1)).await, Outcome::HandlerFault, Reason::Unauthorized));

    let right = handler(&server.settings("open/a", &as_relay("s3cr3t-word")));
    assert!(deliver(&right, &numbered("a", 1)).await.is_delivered());
    let told = right.probe().await.expect("it connects");
    assert!(told.contains("connected to 127.0.0.1:") && told.contains("20 events at once"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_may_not_be_written_is_a_fault_of_the_handler_and_the_session_stays() {
    let Some(server) = guarded().await else { return };
    for qos in [1, 2] {
        let settings = server.settings("{aggregate_id}", &format!("{}\nqos = {qos}", as_relay("s3cr3t-word")));
        let handler = handler(&settings);
        let verdict = deliver(&handler, &numbered("closed", 1)).await;
        assert!(is(&verdict, Outcome::HandlerFault, Reason::Unauthorized) && verdict.status == Some(0x87), "{verdict:?}");
        assert!(verdict.detail.ends_with("topic \"closed\""), "{verdict:?}");
        assert!(deliver(&handler, &numbered("open/a", 1)).await.is_delivered());
    }
    assert_eq!(server.logged("as outboxd-tried-"), 2, "one session each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_the_wrong_password_holds_its_events_until_it_is_right() {
    let Some(server) = guarded().await else { return };
    let reader = Client::start("mqtt_read.py", &[&server.port().to_string(), "#", "reader", "other-word"]).await;
    let database = TestDatabase::create().await;
    let entry = |password: &str| {
        let settings = server.settings("open/{aggregate_id}", &as_relay(password));
        format!(
            "[[handlers]]\nname = \"far\"\nkind = \"mqtt\"\n{settings}\n[handlers.circuit]\nfirst_probe = \"100ms\"\nmax_probe = \"200ms\""
        )
    };
    let binary = Binary::relay(database.url(), &entry("wr0ng-word"));
    let relay = binary.spawn(&["run"]);
    database.insert_events((0..50).map(|number| NewRow::new("a").of("a", number % 5).payload(json!({ "n": number })))).await;
    eventually("the circuit opens", || async {
        (database.count("subscriptions where circuit <> 'closed' and circuit_reason = 'unauthorized'").await == 1).then_some(())
    })
    .await;
    assert_eq!(database.count("deliveries where state in ('dead', 'delivered')").await, 0);

    binary.rewrite(&Binary::relay_config(database.url(), &entry("s3cr3t-word")));
    relay.hang_up();
    assert_eq!(reader.wait_for(50).await.len(), 50);
    assert!(!relay.stderr().contains("r0ng-word") && !relay.stderr().contains("s3cr3t-word"), "{}", relay.stderr());
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_nobody_reads_is_a_fault_only_where_somebody_is_required() {
    let Some(server) = Mosquitto::start("").await else { return };
    let lenient = handler(&server.settings("a/b", ""));
    let verdict = deliver(&lenient, &numbered("a", 1)).await;
    assert!(is(&verdict, Outcome::Delivered, Reason::Ok) && verdict.detail.contains("the topic has no subscriber"), "{verdict:?}");
    let strict = handler(&server.settings("a/b", "require_subscriber = true"));
    let verdict = deliver(&strict, &numbered("a", 2)).await;
    assert!(is(&verdict, Outcome::HandlerFault, Reason::Unroutable) && verdict.status == Some(0x10), "{verdict:?}");
    let reader = server.reader("a/#").await;
    assert_eq!(deliver(&strict, &numbered("a", 3)).await, Verdict::delivered());
    assert_eq!(reader.wait_for(1).await[0]["payload"], "{\"n\":3}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handlers_with_one_client_id_are_told_what_may_be_the_matter() {
    let Some(server) = Mosquitto::start("").await else { return };
    let settings = server.settings("a", "client_id = \"mine\"");
    let (one, other) = (handler(&settings), handler(&settings));
    // A broker may say so (0x8E, session taken over); mosquitto only hangs up where a session does not outlive its connection.
    let is_told = |verdict: &Verdict| verdict.reason == Reason::ConnectionReset && verdict.detail.contains("the same client_id");
    // Each new session of the one ends that of the other, so sooner or later an event is in flight when it happens.
    let told = eventually("somebody is told", || async {
        let (left, right) = tokio::join!(deliver_many(&one, 50), deliver_many(&other, 50));
        left.into_iter().chain(right).find(is_told)
    })
    .await;
    assert_eq!(told.outcome, Outcome::Retry, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_does_not_throw_out_the_relay_that_runs() {
    let Some(server) = Mosquitto::start("").await else { return };
    let settings = server.settings("a", "client_id = \"mine\"");
    let running = handler(&settings);
    assert!(deliver(&running, &numbered("a", 1)).await.is_delivered());
    handler(&settings).probe().await.expect("it connects");
    assert!(deliver(&running, &numbered("a", 2)).await.is_delivered());
    assert_eq!(server.logged("already connected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lacks_what_is_configured_is_a_fault_and_nothing_is_sent() {
    let Some(server) = Mosquitto::start("retain_available false\nmax_qos 1").await else { return };
    for (settings, want) in [("retain = true", "keep events, which retain asks for"), ("qos = 2", "take qos = 2")] {
        let verdict = deliver(&handler(&server.settings("a", settings)), &numbered("a", 1)).await;
        assert!(is(&verdict, Outcome::HandlerFault, Reason::Misconfigured), "{verdict:?}");
        assert!(verdict.detail.ends_with(&format!("the broker does not {want}")), "{verdict:?}");
    }
    assert_eq!(server.logged("Received PUBLISH"), 0);
}
