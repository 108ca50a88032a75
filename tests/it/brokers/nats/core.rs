//! Core NATS: what is delivered when the server has passed it on, and what is not.

use outboxd::domain::{Outcome, Reason, Verdict};
use serde_json::json;

use super::{assert_verdict, deliver, event, publisher};
use crate::support::{Client, NatsServer, Proxy, nats_server, nats_server_of};

const CORE: &str = "mode = \"core\"";

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_has_the_event_when_it_counts_as_delivered() {
    let Some(server) = nats_server().await else { return };
    let subject = NatsServer::unused_name();
    let listener = Client::start("nats_client.py", &["listen", &server.client_url, &format!("{subject}.>")]).await;
    let (handler, event) = (publisher(server, &subject, CORE), event());
    assert_eq!(deliver(&handler, &event).await, Verdict::delivered());
    let received = listener.wait_for(1).await;
    assert_eq!(
        (&received[0]["body"], &received[0]["headers"]["Nats-Msg-Id"]),
        (&json!(event.payload), &json!(event.id.to_string()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_without_permission_is_a_fault_and_so_is_a_server_that_may_not_be_asked() {
    let users = "authorization { users: [
        { user: some, password: pw, permissions: { publish: [\"open.>\", \"_INBOX.>\"] } },
        { user: mute, password: pw, permissions: { publish: [\"open.>\"] } },
    ] }";
    let Some(server) = nats_server_of(users, &[]).await else { return };
    let of = |user: &str, subject: &str| publisher(&server, subject, &format!("{CORE}\nusername = \"{user}\"\npassword = \"pw\""));
    assert_eq!(deliver(&of("some", "open"), &event()).await, Verdict::delivered());
    let closed = of("some", "closed");
    for _ in 0..50 {
        let verdict = deliver(&closed, &event()).await;
        assert_verdict(&verdict, Outcome::HandlerFault, Reason::Unauthorized);
        assert_eq!(verdict.detail, "the user must not publish to \"closed.order.placed\"");
    }
    let verdict = deliver(&of("mute", "open"), &event()).await;
    assert_verdict(&verdict, Outcome::HandlerFault, Reason::Unauthorized);
    assert!(verdict.detail.contains("inbox_prefix"), "{}", verdict.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_before_the_answer_leaves_the_event_in_doubt() {
    let Some(server) = nats_server().await else { return };
    let (proxy, url) = Proxy::in_front_of(&server.url()).await;
    let handler = super::handler(&format!("servers = [\"{url}\"]\nsubject = \"x\"\n{CORE}"));
    assert_eq!(deliver(&handler, &event()).await, Verdict::delivered());
    proxy.swallow();
    let event = event();
    let (verdict, ()) = tokio::join!(deliver(&handler, &event), async {
        tokio::task::yield_now().await;
        proxy.cut();
    });
    assert_verdict(&verdict, Outcome::Retry, Reason::ConnectionReset);
    proxy.heal();
    assert_eq!(deliver(&handler, &event).await, Verdict::delivered());
}
