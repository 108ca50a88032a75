//! Credentials and rights, by the access control lists of the server.

use outboxd::domain::{Outcome, Reason};

use super::expect;
use super::server::{a_stream, handler, shared};

const PASSWORD: &str = "s3cret-of-the-test";

/// A user of its own with these rights, and its address.
async fn user(rights: &[&str]) -> Option<(&'static super::RedisServer, String, String)> {
    let server = shared().await?;
    let name = format!("user-{}", uuid::Uuid::new_v4().simple());
    let password = format!(">{PASSWORD}");
    let words: Vec<&str> = ["acl", "setuser", &name, "on", &password].into_iter().chain(rights.iter().copied()).collect();
    server.must(&words).await;
    let url = format!("redis://{name}:{PASSWORD}@127.0.0.1:{}", server.port());
    Some((server, name, url))
}

async fn assert_unauthorized(url: &str, stream: &str) {
    let handler = handler(url, stream, "");
    let verdict = expect(&*handler, Outcome::HandlerFault, Reason::Unauthorized).await;
    let problem = handler.probe().await.expect_err("a probe must not say that all is well");
    for text in [verdict.detail, problem] {
        assert!(!text.contains(PASSWORD) && !text.contains("wr0ng"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_the_fault_of_the_configuration() {
    let Some((server, name, url)) = user(&["+@all", "~*"]).await else { return };
    let stream = a_stream();
    expect(&*handler(&url, &stream, ""), Outcome::Delivered, Reason::Ok).await;
    assert_unauthorized(&url.replace(PASSWORD, "wr0ng-password"), &stream).await;
    assert_unauthorized(&url.replace(&name, "nobody"), &stream).await;
    // A password for a server that wants none is a mistake somebody should hear of.
    assert_unauthorized(&format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port()), &stream).await;
    server.must(&["acl", "setuser", &name, "off"]).await;
    assert_unauthorized(&url, &stream).await;
    assert_eq!(server.length(&stream).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_to_add_entries_and_nothing_else() {
    let stream = a_stream();
    let Some((server, _, url)) = user(&["+xadd", &format!("~{stream}")]).await else { return };
    let handler = handler(&url, &stream, "");
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    let said = handler.probe().await.expect("it could be delivered");
    let want = format!("connected to 127.0.0.1:{} (version unknown); may not look at the stream {stream:?}", server.port());
    assert_eq!(said, want);
    assert_eq!(server.length(&stream).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_or_taken_away_is_the_fault_of_the_configuration() {
    let stream = a_stream();
    let Some((_, _, without)) = user(&["+@all", "-xadd", "~*"]).await else { return };
    assert_unauthorized(&without, &stream).await;
    let Some((_, _, elsewhere)) = user(&["+@all", "~elsewhere"]).await else { return };
    assert_unauthorized(&elsewhere, &stream).await;
    let Some((server, name, url)) = user(&["+@all", "~*"]).await else { return };
    let handler = handler(&url, &stream, "");
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    server.must(&["acl", "setuser", &name, "-xadd"]).await;
    expect(&*handler, Outcome::HandlerFault, Reason::Unauthorized).await;
    server.must(&["acl", "setuser", &name, "+xadd"]).await;
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_exist_is_named() {
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    expect(&*handler(&format!("{}/3", server.url()), &stream, ""), Outcome::Delivered, Reason::Ok).await;
    assert_eq!(server.cli(&["-n", "3", "xlen", &stream]).await, "1");
    let verdict = expect(&*handler(&format!("{}/99", server.url()), &stream, ""), Outcome::HandlerFault, Reason::NotFound).await;
    assert!(verdict.detail.contains("DB index is out of range"), "{verdict:?}");
}
