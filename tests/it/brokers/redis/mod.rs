//! The kind `redis` against real servers: what an entry is, and what each refusal of a server becomes.

mod broken;
mod cluster;
mod held;
mod replicas;
mod rights;
mod secure;
pub mod server;

use outboxd::domain::{Notification, Outcome, Reason, Verdict};
use outboxd::handlers::Handler;
use serde_json::json;

use self::server::{RedisServer, a_stream, shared};
use crate::conformance::numbered;
use crate::support::eventually;

/// The answer to one event must be this.
async fn expect(handler: &dyn Handler, outcome: Outcome, reason: Reason) -> Verdict {
    let verdict = handler.deliver(&numbered("a", 1)).await;
    assert_eq!((verdict.outcome, verdict.reason), (outcome, reason), "{verdict:?}");
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_an_entry_with_flat_fields() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const PAYLOAD: &str = "{\"total\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    let event = Notification {
        headers: format!("{{\"traceparent\":\"{PARENT}\",\"tenant\":\"ä b\"}}"),
        aggregate_version: Some(3),
        is_replay: true,
        ..Notification::sample("order.placed", PAYLOAD)
    };
    let plain = server.handler(&stream, "headers = { tenant = \"{header:tenant}\" }");
    assert_eq!(plain.deliver(&event).await, Verdict::delivered());
    let cloud = server.handler(&stream, "format = \"cloudevents-structured\"\nsource = \"shop\"");
    assert_eq!(cloud.deliver(&event).await, Verdict::delivered());
    let entries = server.entries(&stream).await;
    let id = event.id.to_string();
    assert_eq!(
        entries[0],
        json!({
            "id": id, "type": "order.placed", "content-type": "application/json", "event-time": "2023-11-14T22:13:20.000000Z",
            "event-key": "order/42", "aggregate-type": "order", "aggregate-id": "42", "aggregate-version": "3",
            "traceparent": PARENT, "tenant": "ä b", "event-replay": "true", "payload": PAYLOAD,
        })
    );
    assert_eq!((&entries[1]["id"], &entries[1]["content-type"]), (&json!(id), &json!("application/cloudevents+json")));
    let body = entries[1]["payload"].as_str().expect("a text");
    assert!(body.ends_with(&format!(",\"data\":{PAYLOAD}}}")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_follow_from_the_event_and_be_trimmed() {
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    let handler = server.handler(&format!("{stream}.{{aggregate_type}}"), "max_length = 50");
    let deliveries = (0..1_000).map(|number| {
        let handler = &handler;
        async move { handler.deliver(&numbered("a", number)).await }
    });
    let verdicts = futures_util::future::join_all(deliveries).await;
    assert!(verdicts.iter().all(Verdict::is_delivered));
    let length = server.length(&format!("{stream}.order")).await;
    assert!((50..300).contains(&length), "about 50: {length}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_stream_is_the_fault_of_the_configuration_unless_the_event_names_it() {
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    let handler = server.handler(&stream, "create_stream = false");
    let verdict = expect(&*handler, Outcome::HandlerFault, Reason::NotFound).await;
    assert_eq!(verdict.detail, format!("there is no stream {stream:?}, and create_stream is false"));
    assert_eq!(handler.probe().await, Err(verdict.detail));
    assert_eq!(server.length(&stream).await, 0);
    let of_event = server.handler(&format!("{stream}.{{type}}"), "create_stream = false");
    expect(&*of_event, Outcome::Retry, Reason::NotFound).await;
    server.must(&["xgroup", "create", &stream, "readers", "$", "MKSTREAM"]).await;
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    assert_eq!(server.length(&stream).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_stream_is_left_as_it_is() {
    let Some(server) = shared().await else { return };
    let key = a_stream();
    server.must(&["set", &key, "kept"]).await;
    let handler = server.handler(&key, "");
    let verdict = expect(&*handler, Outcome::HandlerFault, Reason::NotFound).await;
    assert!(verdict.detail.contains("WRONGTYPE"), "{verdict:?}");
    assert_eq!(handler.probe().await, Err(format!("{key:?} is a string, not a stream")));
    assert_eq!(server.cli(&["get", &key]).await, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_it_found_and_adds_nothing() {
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    let handler = server.handler(&stream, "");
    let said = handler.probe().await.expect("all is well");
    let head = format!("connected to 127.0.0.1:{} (", server.port());
    assert!(said.starts_with(&head) && said.ends_with(&format!("; the first event will create the stream {stream:?}")), "{said}");
    assert_eq!(server.cli(&["exists", &stream]).await, "0");
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    let said = handler.probe().await.expect("all is well");
    assert!(said.ends_with(&format!("; the stream {stream:?} has the length 1")), "{said}");
    assert_eq!(server.length(&stream).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_at_its_last_id_is_full() {
    let Some(server) = shared().await else { return };
    let stream = a_stream();
    server.cli(&["xadd", &stream, "18446744073709551615-18446744073709551615", "a", "b"]).await;
    let verdict = expect(&*server.handler(&stream, ""), Outcome::BackPressure, Reason::Full).await;
    assert!(verdict.detail.contains("exhausted the last possible ID"), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_save_takes_nothing_until_it_can() {
    let Some(server) = RedisServer::start(&["--save", "3600 1000000"]).await else { return };
    std::fs::create_dir_all(server.service.directory().join("dump.rdb/in-the-way")).expect("the folder is ours");
    server.cli(&["bgsave"]).await;
    eventually("the snapshot fails", || async {
        server.cli(&["info", "persistence"]).await.contains("rdb_last_bgsave_status:err").then_some(())
    })
    .await;
    let handler = server.handler("orders", "");
    let verdict = expect(&*handler, Outcome::BackPressure, Reason::Full).await;
    assert!(verdict.detail.contains("MISCONF"), "{verdict:?}");
    assert!(handler.probe().await.expect_err("nothing would be taken").contains("MISCONF"));
    server.must(&["config", "set", "stop-writes-on-bgsave-error", "no"]).await;
    eventually("entries are taken", || async { handler.deliver(&numbered("a", 1)).await.is_delivered().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_server_finds_too_large_is_a_dead_letter() {
    let Some(server) = RedisServer::start(&["--proto-max-bulk-len", "1mb"]).await else { return };
    let handler = server.handler("orders", "max_payload = \"10MiB\"");
    let event = Notification { payload: format!("\"{}\"", "x".repeat(1 << 20)), ..numbered("a", 1) };
    // The server hangs up at the first word of it, and its answer may get lost in that.
    let verdict = eventually("the answer arrives", || async {
        let verdict = handler.deliver(&event).await;
        assert!(verdict.outcome == Outcome::Permanent || verdict.ambiguous, "{verdict:?}");
        (verdict.outcome == Outcome::Permanent).then_some(verdict)
    })
    .await;
    assert_eq!(verdict.reason, Reason::TooLarge);
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    assert_eq!(server.length("orders").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_the_server_cannot_be_asked_about_is_found_before_an_event_is_sent() {
    let Some(server) = RedisServer::start(&["--appendonly", "no"]).await else { return };
    let handler = server.handler("orders", "durability = \"disk\"");
    // Before 7.2 the command is unknown; from then on it wants an append-only file.
    let verdict = expect(&*handler, Outcome::HandlerFault, Reason::Misconfigured).await;
    assert!(verdict.detail.contains("WAITAOF"), "{verdict:?}");
    assert_eq!(server.length("orders").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_waits_for_the_disk_where_the_server_can() {
    let Some(server) = RedisServer::start(&["--appendfsync", "everysec"]).await else { return };
    let handler = server.handler("orders", "durability = \"disk\"");
    if server.cli(&["command", "info", "waitaof"]).await.is_empty() {
        let verdict = expect(&*handler, Outcome::HandlerFault, Reason::Misconfigured).await;
        assert!(verdict.detail.contains("needs Redis 7.2"), "{verdict:?}");
        assert_eq!(server.length("orders").await, 0);
        return;
    }
    expect(&*handler, Outcome::Delivered, Reason::Ok).await;
    let replicated = server.handler("orders", "durability = \"disk\"\nwait_replicas = 1");
    let verdict = expect(&*replicated, Outcome::BackPressure, Reason::Nacked).await;
    assert!(verdict.detail.contains("0 of 1 replicas"), "{verdict:?}");
    assert_eq!(server.length("orders").await, 1);
}
