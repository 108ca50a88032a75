//! Who may do what: credentials of every sort, and permissions, which a server refuses without an answer.

use outboxd::domain::{Outcome, Reason, Verdict};

use super::{assert_verdict, deliver, event, publisher};
use crate::support::{NatsServer, eventually, nats_server_of};

const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

/// A server with an administrator for the independent client, and these users.
async fn server_with(users: &str) -> Option<NatsServer> {
    let mut server =
        nats_server_of(&format!("authorization {{ users: [ {{ user: admin, password: admin }}, {users} ] }}"), &[]).await?;
    server.client_url = format!("nats://admin:admin@{}", server.service.address());
    Some(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_fault_that_tells_nothing_and_the_right_one_works() {
    let Some(server) = server_with("{ user: relay, password: \"rightly-secret\" }").await else { return };
    let stream = server.stream(&[]).await;
    let with = |password: &str| publisher(&server, &stream, &format!("username = \"relay\"\npassword = \"{password}\""));
    let wrong = with("wrongly-secret");
    let verdict = deliver(&wrong, &event()).await;
    assert_verdict(&verdict, Outcome::HandlerFault, Reason::Unauthorized);
    assert!(!verdict.ambiguous && !format!("{verdict:?}").contains("wrongly-secret"), "{verdict:?}");
    let told = wrong.probe().await.expect_err("it is wrong");
    assert_eq!(told, format!("could not connect: {}: authorization violation", server.service.address()));
    assert_eq!(deliver(&with("rightly-secret"), &event()).await, Verdict::delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_a_seed_identify_as_well_as_a_password() {
    let Some(server) = server_with(&format!("{{ nkey: {PUBLIC} }}")).await else { return };
    let stream = server.stream(&[]).await;
    assert_eq!(deliver(&publisher(&server, &stream, &format!("nkey = \"{SEED}\"")), &event()).await, Verdict::delivered());

    let Some(mut server) = nats_server_of("authorization { token: \"s3cr3t-token\" }", &[]).await else { return };
    server.client_url = format!("nats://s3cr3t-token@{}", server.service.address());
    let stream = server.stream(&[]).await;
    assert_eq!(deliver(&publisher(&server, &stream, "token = \"s3cr3t-token\""), &event()).await, Verdict::delivered());
    let verdict = deliver(&publisher(&server, &stream, "token = \"another-token\""), &event()).await;
    assert_verdict(&verdict, Outcome::HandlerFault, Reason::Unauthorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_without_permission_is_a_fault_at_once_and_others_go_on() {
    let Some(server) = server_with("{ user: relay, password: pw, permissions: { publish: [\"*.allowed\"] } }").await else {
        return;
    };
    let stream = server.stream(&[]).await;
    let more = "username = \"relay\"\npassword = \"pw\"\nconfirm_timeout = \"14s\"";
    let handler = publisher(&server, &stream, more);
    let typed = |event_type: &str| outboxd::domain::Notification { event_type: event_type.to_owned(), ..event() };
    let events = [typed("denied"), typed("denied"), typed("allowed"), typed("other")];
    let verdicts = futures_util::future::join_all(events.iter().map(|event| deliver(&handler, event))).await;
    for (number, verdict) in verdicts.iter().enumerate() {
        match number {
            2 => assert_eq!(*verdict, Verdict::delivered()),
            _ => assert_verdict(verdict, Outcome::HandlerFault, Reason::Unauthorized),
        }
    }
    assert_eq!(verdicts[0].detail, format!("the user must not publish to \"{stream}.denied\""));
    assert_eq!(deliver(&handler, &typed("allowed")).await, Verdict::delivered());
    assert_eq!(server.read(&stream).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_acknowledgements_arrive_is_a_matter_of_permission_too() {
    let users = "{ user: relay, password: pw, permissions: { publish: [\">\"], subscribe: [\"_INBOX_relay.>\"] } }";
    let Some(server) = server_with(users).await else { return };
    let stream = server.stream(&[]).await;
    let login = "username = \"relay\"\npassword = \"pw\"\nconfirm_timeout = \"14s\"";
    let event = event();
    for _ in 0..2 {
        let verdict = deliver(&publisher(&server, &stream, login), &event).await;
        assert_verdict(&verdict, Outcome::HandlerFault, Reason::Unauthorized);
        assert!(verdict.ambiguous && verdict.detail.contains("inbox_prefix"), "{verdict:?}");
    }
    // It was stored all the same, which nobody could say; and who can hear is told so.
    let handler = publisher(&server, &stream, &format!("{login}\ninbox_prefix = \"_INBOX_relay\""));
    assert_eq!(deliver(&handler, &event).await, Verdict::duplicate());
    assert_eq!(server.read(&stream).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_no_room_for_a_connection_asks_for_less_until_another_handler_is_dropped() {
    let Some(server) = nats_server_of("max_connections: 1", &[]).await else { return };
    let stream = server.stream(&[]).await;
    let handler = publisher(&server, &stream, "");
    // The independent client's connection may not have been taken off the count yet.
    eventually("there is room for one", || async { (deliver(&handler, &event()).await == Verdict::delivered()).then_some(()) })
        .await;
    let next = publisher(&server, &stream, "");
    assert_verdict(&deliver(&next, &event()).await, Outcome::BackPressure, Reason::Throttled);
    drop(handler);
    eventually("a dropped handler makes room", || async { (deliver(&next, &event()).await == Verdict::delivered()).then_some(()) })
        .await;
}
