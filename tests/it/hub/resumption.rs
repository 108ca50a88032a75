//! Stateful reconnect, record by record: what is sent again, what is not handled again, and a socket that is only half dead.

use serde_json::{Value, json};

use super::raw::{Socket, negotiate_with};
use super::{order, settings};
use crate::feed::client::Served;
use crate::feed::wait_for_places;
use crate::support::{TestDatabase, eventually};

const HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":2}\u{1e}";

fn call(method: &str, id: &str) -> String {
    format!("{{\"type\":1,\"target\":\"{method}\",\"arguments\":[],\"invocationId\":\"{id}\"}}\u{1e}")
}

/// The next record that is neither a ping nor an acknowledgement.
async fn next(socket: &mut Socket) -> Value {
    loop {
        let record = socket.next_json().await.expect("a record");
        if record["type"] != 8 {
            return record;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_and_what_was_handled_is_not_handled_again() {
    let database = TestDatabase::create().await;
    let ids = database.insert_events((1..=3).map(order)).await;
    let (served, _binary) = Served::with_metrics(&database, &settings()).await;
    wait_for_places(&database, 3).await;
    let query = format!("?id={}", negotiate_with(&served.address, "&useStatefulReconnect=true").await);
    let mut first = Socket::open(&served.address, &query, &[]).await.expect("a socket");
    first.say(&format!("{HANDSHAKE}{}", call("Subscribe", "0"))).await;
    assert_eq!(first.next().await, Some("{}".to_owned()));
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(next(&mut first).await);
    }
    assert_eq!(said[0]["invocationId"], json!("0"));
    let events: Vec<&Value> = said[1..].iter().map(|record| &record["arguments"][0]["id"]).collect();
    assert_eq!(events, ids.iter().map(|id| json!(id)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    // The answer and the first event have come; then the client comes back while its old socket still stands.
    first.say("{\"type\":8,\"sequenceId\":2}\u{1e}{\"type\":6}\u{1e}").await;
    let mut second = Socket::open(&served.address, &query, &[]).await.expect("it may come back");
    let begun = next(&mut second).await;
    assert_eq!(begun["type"], json!(9));
    // Whether the acknowledgement was faster than the new socket is open: the client expects no higher number.
    let from = begun["sequenceId"].as_u64().expect("a number");
    assert!((1..=3).contains(&from), "{begun}");
    for record in &said[usize::try_from(from).expect("small") - 1..] {
        assert_eq!(next(&mut second).await, *record);
    }
    assert_eq!(first.next_json().await.filter(|record| record["type"] != 8), None, "the old socket is told nothing more");

    // Nothing counts before the client says where it goes on; its first call comes again and is not handled again.
    second.say(&format!("{}{{\"type\":9,\"sequenceId\":1}}\u{1e}", call("Nothing", "lost"))).await;
    second.say(&format!("{}{}", call("Subscribe", "0"), call("Unsubscribe", "1"))).await;
    let answer = next(&mut second).await;
    assert_eq!(answer, json!({ "type": 3, "invocationId": "1" }), "the second call, and no second answer to the first");

    // A number that leaves a hole, or an acknowledgement of what was never sent, ends it.
    second.say("{\"type\":8,\"sequenceId\":99}\u{1e}").await;
    assert_eq!(next(&mut second).await["type"], json!(7));
    eventually("the session is gone", || async {
        (Socket::open(&served.address, &query, &[]).await.err() == Some(404)).then_some(())
    })
    .await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_client_that_does_not_come_back_is_forgotten() {
    let database = TestDatabase::create().await;
    let quick = settings().replace("client_timeout = \"20s\"", "client_timeout = \"2s\"");
    let (served, _binary) = Served::with_metrics(&database, &quick).await;
    let query = format!("?id={}", negotiate_with(&served.address, "&useStatefulReconnect=true").await);
    let mut socket = Socket::open(&served.address, &query, &[]).await.expect("a socket");
    socket.say(HANDSHAKE).await;
    assert_eq!(socket.next().await, Some("{}".to_owned()));
    assert!(served.metrics().await.contains("outboxd_feed_connections{client=\"all\"} 1"));
    drop(socket);
    eventually("it is forgotten", || async {
        served.metrics().await.contains("outboxd_feed_connections{client=\"all\"} 0").then_some(())
    })
    .await;
    assert!(served.metrics().await.contains("outboxd_hub_closed_total{client=\"all\",reason=\"left\"} 1"));
    assert_eq!(Socket::open(&served.address, &query, &[]).await.err(), Some(404));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_not_acknowledge_is_bounded_and_goes_on_when_it_does() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=100).map(order)).await;
    let small = settings().replace("path =", "reconnect_buffer = \"4kB\"\npath =");
    let (served, _binary) = Served::with_metrics(&database, &small).await;
    wait_for_places(&database, 100).await;
    let query = format!("?id={}", negotiate_with(&served.address, "&useStatefulReconnect=true").await);
    let mut socket = Socket::open(&served.address, &query, &[]).await.expect("a socket");
    socket.say(&format!("{HANDSHAKE}{}", call("Subscribe", "0"))).await;
    assert_eq!(socket.next().await, Some("{}".to_owned()));
    let (mut events, mut records, mut rounds) = (0, 0_u64, 0);
    while events < 100 {
        // Without an acknowledgement nothing but pings comes once the buffer is full.
        let record = loop {
            let record: Value = serde_json::from_str(&socket.next().await.expect("a record")).expect("JSON");
            if record["type"] != 8 {
                break record;
            }
        };
        if record["type"] == 6 {
            rounds += 1;
            socket.say(&format!("{{\"type\":8,\"sequenceId\":{records}}}\u{1e}")).await;
            continue;
        }
        records += 1;
        events += usize::from(record["target"] == json!("event"));
    }
    assert!(rounds >= 5, "a hundred events are more than five buffers: {rounds}");
    served.stop().await;
}
