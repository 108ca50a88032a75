//! The helpers themselves: a test that relies on a broken one proves nothing.

use std::time::Duration;

use crate::support::{Answer, Binary, NewRow, Proxy, Receiver, TestDatabase, own_server};

fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client without options builds")
}

#[tokio::test]
async fn receiver_records_in_order_and_answers_by_script() {
    let receiver = Receiver::answering(|request| match (request.id.as_str(), request.attempt) {
        ("b", 1) => Answer::status(503).header("retry-after", "7").body("later"),
        _ => Answer::ok(),
    })
    .await;
    let client = client();
    let post = |id: &'static str| {
        client.post(receiver.url()).header("webhook-id", id).header("ce-type", "order.placed").body("{\"n\":1}").send()
    };

    assert_eq!(post("a").await.expect("an answer").status(), 200);
    let refused = post("b").await.expect("an answer");
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().ok()), (503, Some("7")));
    assert_eq!(post("b").await.expect("an answer").status(), 200);

    let received = receiver.wait_for(3).await;
    let seen: Vec<_> = received.iter().map(|request| (request.id.as_str(), request.attempt)).collect();
    assert_eq!(seen, [("a", 1), ("b", 1), ("b", 2)]);
    assert_eq!((received[0].event_type().as_str(), received[0].json()["n"].as_i64()), ("order.placed", Some(1)));
}

#[tokio::test]
async fn receiver_breaks_the_connection_when_told_to() {
    for answer in [Answer::Reset, Answer::Close, Answer::Raw(b"no HTTP at all\r\n\r\n".to_vec())] {
        let receiver = Receiver::start().await;
        let told = answer.clone();
        receiver.answer_with(move |_| told.clone());
        assert!(client().post(receiver.url()).body("x").send().await.is_err(), "{answer:?}");
        receiver.wait_for(1).await;
    }
}

#[tokio::test]
async fn a_database_is_gone_after_its_test() {
    let database = TestDatabase::create().await;
    database.insert_event(NewRow::new("order.placed").of("order", 1)).await;
    assert_eq!(database.count("events where type = 'order.placed'").await, 1);
    let (url, other) = (database.url().to_owned(), TestDatabase::empty().await);

    drop(database);

    let name = url.rsplit('/').next().expect("an address has a path");
    assert_eq!(other.count(&format!("pg_database where datname = '{name}'")).await, 0);
}

#[tokio::test]
async fn the_binary_runs_with_captured_output() {
    let finished = Binary::with_config("").run(&["-V"]).await;
    assert_eq!(finished.code, Some(0));
    assert_eq!(finished.stdout, concat!("outboxd ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[tokio::test]
async fn a_test_can_have_a_server_of_its_own() {
    use sqlx::Connection;
    let server = own_server(&[("wal_level", "logical")]).await;
    let mut connection = sqlx::PgConnection::connect(&server.url("postgres")).await.expect("the server takes connections");
    let level: String = sqlx::query_scalar("show wal_level").fetch_one(&mut connection).await.expect("an answer");
    assert_eq!(level, "logical");
}

#[tokio::test]
async fn proxy_cuts_and_swallows_and_heals() {
    let receiver = Receiver::start().await;
    let (proxy, url) = Proxy::in_front_of(&receiver.url()).await;
    let client = client();
    let post = |timeout: u64| client.post(&url).timeout(Duration::from_millis(timeout)).send();
    assert_eq!(post(30_000).await.expect("an answer").status(), 200);

    proxy.cut();
    assert!(!post(30_000).await.expect_err("the connection is reset").is_timeout());
    proxy.swallow();
    assert!(post(100).await.expect_err("nobody answers").is_timeout());
    assert_eq!(receiver.received().len(), 1);
    proxy.heal();

    assert_eq!(post(30_000).await.expect("an answer").status(), 200);
}
