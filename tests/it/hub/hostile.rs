//! Clients that keep to no rule: records cut anywhere, records that are none, calls without end, and clients that take nothing.

use serde_json::{Value, json};

use super::raw::{HANDSHAKE, Polling, SUBSCRIBE, Socket, bearer};
use super::{order, serve, settings};
use crate::feed::client::Served;
use crate::feed::wait_for_places;
use crate::support::{NewRow, TestDatabase, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn records_are_understood_wherever_bodies_and_frames_are_cut() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let served = serve(&database).await;
    wait_for_places(&database, 1).await;
    let ping = "{\"type\":6}\u{1e}";
    let whole = format!("{HANDSHAKE}{ping}{SUBSCRIBE}{ping}");

    let mut polling = Polling::begin(&served.address).await;
    for part in whole.as_bytes().chunks(11) {
        assert_eq!(polling.post(part).await.status, 200);
    }
    let mut socket = Socket::open(&served.address, "", &[("authorization", &bearer())]).await.expect("a socket");
    for part in whole.as_bytes().chunks(7) {
        socket.frame(0x81, part).await.expect("it reads");
    }
    assert_eq!((polling.next().await, socket.next().await), (Some("{}".to_owned()), Some("{}".to_owned())));
    for _ in 0..2 {
        let (polled, pushed) = (polling.next_json().await.expect("an answer"), socket.next_json().await.expect("an answer"));
        assert_eq!(polled, pushed);
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_none_ends_its_connection_and_no_other() {
    let database = TestDatabase::create().await;
    let served = serve(&database).await;
    let mut other = Socket::ready(&served.address).await;
    let (long, deep) = ("x".repeat(33 * 1024), format!("{{\"type\":1,\"target\":\"a\",\"arguments\":{}", "[".repeat(20_000)));
    for (said, why) in [
        ("\u{1e}", "not the JSON"),
        ("{}\u{1e}", "not the JSON"),
        ("{\"type\":1}\u{1e}", "not the JSON"),
        ("nonsense\u{1e}", "not the JSON"),
        ("{\"type\":8,\"sequenceId\":\"x\"}\u{1e}", "not the JSON"),
        ("{\"type\":9,\"sequenceId\":7}\u{1e}", "not the JSON"),
        (&format!("{deep}\u{1e}"), "not the JSON"),
        (&long, "longer than 32 KiB"),
    ] {
        let mut socket = Socket::ready(&served.address).await;
        socket.say(said).await;
        let last = socket.next_json().await.expect("a reason");
        assert!(last["type"] == 7 && last["error"].as_str().is_some_and(|error| error.contains(why)), "{last}");
        assert_eq!(last.get("allowReconnect"), None, "it would do the same again");
        assert_eq!(socket.next_json().await, None);
    }
    for (handshake, why) in [
        ("{\"protocol\":\"messagepack\",\"version\":1}", "The protocol 'messagepack' is not available, only 'json' is."),
        ("{\"protocol\":\"json\",\"version\":2}", "with stateful reconnect only"),
        ("{\"protocol\":\"json\",\"version\":3}", "Version 3 of the protocol 'json' is not available"),
        ("{\"type\":9,\"sequenceId\":1}", "The handshake is not the JSON"),
        ("GET / HTTP/1.1", "The handshake is not the JSON"),
    ] {
        let mut socket = Socket::open(&served.address, "", &[("authorization", &bearer())]).await.expect("a socket");
        socket.say(&format!("{handshake}\u{1e}")).await;
        let last = socket.next_json().await.expect("a reason");
        assert!(last["error"].as_str().is_some_and(|error| error.contains(why)), "{last}");
        assert_eq!(socket.next_json().await, None);
    }
    // What is no text, a frame of a kind that there is not, and one that is too large.
    for (first, payload) in [(0x82, vec![0xff_u8; 5]), (0x83, b"{}".to_vec()), (0x81, vec![0xff; 9]), (0x81, vec![b'x'; 70 * 1024])]
    {
        let mut socket = Socket::ready(&served.address).await;
        if first == 0x82 {
            socket.frame(first, &[payload.as_slice(), b"\x1e"].concat()).await.expect("it reads");
            assert_eq!(socket.next_json().await.expect("a reason")["type"], json!(7));
        } else {
            socket.frame(first, &payload).await.ok();
        }
        while socket.next_json().await.is_some() {}
    }
    let polling = Polling::open(&served.address).await;
    assert_eq!(polling.post(&vec![b'x'; 300 * 1024]).await.status, 413);
    other.say("{\"type\":1,\"target\":\"Unsubscribe\",\"invocationId\":\"0\"}\u{1e}").await;
    let answer = other.next_json().await.expect("an answer");
    assert_eq!(answer, json!({ "type": 3, "invocationId": "0" }));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_poll_ends_the_first_and_a_client_that_stops_polling_is_forgotten() {
    let database = TestDatabase::create().await;
    let quick =
        settings().replace("keep_alive = \"500ms\"\nclient_timeout = \"20s\"", "keep_alive = \"1s\"\nclient_timeout = \"2s\"");
    let (served, _binary) = Served::with_metrics(&database, &quick).await;
    let polling = Polling::open(&served.address).await;
    // Whichever comes first is ended by the other one, which waits for as long as a poll may.
    let (one, two) = tokio::join!(polling.get(), polling.get());
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 204]);
    eventually("a client that is silent is forgotten", || async {
        served.metrics().await.contains("outboxd_hub_closed_total{client=\"all\",reason=\"silent\"} 1").then_some(())
    })
    .await;
    // It may still fetch why.
    eventually("its id is unknown", || async { (polling.get().await.status == 404).then_some(()) }).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_closed_and_costs_no_other_anything() {
    let database = TestDatabase::create().await;
    let quick = settings().replace("client_timeout = \"20s\"", "client_timeout = \"2s\"");
    let (served, _binary) = Served::with_metrics(&database, &quick).await;
    let big = |number: i64| NewRow::new("order.placed").of("order", number).payload(json!({ "text": "x".repeat(200_000) }));
    database.insert_events((0..100).map(big)).await;
    wait_for_places(&database, 100).await;
    let mut slow = Socket::ready(&served.address).await;
    slow.say(SUBSCRIBE).await;
    // It lives, and reads nothing of the twenty megabytes.
    let slow = tokio::sync::Mutex::new(slow);
    let closed = eventually("the slow one is closed", || async {
        slow.lock().await.frame(0x81, "{\"type\":6}\u{1e}".as_bytes()).await.ok();
        let metrics = served.metrics().await;
        metrics.contains("outboxd_hub_closed_total{client=\"all\",reason=\"slow\"} 1").then_some(metrics)
    });
    let mut quick = Socket::ready(&served.address).await;
    quick.say(SUBSCRIBE).await;
    let mut events = 0;
    let reading = async {
        while events < 100 {
            let record: Value = quick.next_json().await.expect("a record");
            events += usize::from(record["target"] == json!("event"));
        }
        // Pings keep it alive while the other one is waited for.
        loop {
            quick.say("{\"type\":6}\u{1e}").await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let metrics = tokio::select! {
        metrics = closed => metrics,
        () = reading => unreachable!("it goes on"),
    };
    assert!(metrics.contains("outboxd_feed_connections{client=\"all\"}"), "{metrics}");
    assert!(served.running.stderr().contains("reason=\"slow\""), "{}", served.running.stderr());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_comes_byte_by_byte_does_not_hold_a_connection() {
    let database = TestDatabase::create().await;
    let quick = settings().replace("client_timeout = \"20s\"", "client_timeout = \"2s\"");
    let (served, _binary) = Served::with_metrics(&database, &quick).await;
    let socket =
        tokio::sync::Mutex::new(Socket::open(&served.address, "", &[("authorization", &bearer())]).await.expect("a socket"));
    let metrics = eventually("the connection ends", || async {
        socket.lock().await.frame(0x81, b" ").await.ok();
        let metrics = served.metrics().await;
        metrics.contains("outboxd_hub_closed_total{client=\"all\",reason=\"invalid\"} 1").then_some(metrics)
    })
    .await;
    assert!(metrics.contains("reason=\"silent\"} 0"), "{metrics}");
    let last = socket.into_inner().next_json().await.expect("a reason");
    assert!(last["error"].as_str().is_some_and(|error| error.contains("did not come in time")), "{last}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_calls_without_end_and_takes_no_answer_is_closed() {
    let database = TestDatabase::create().await;
    let (served, _binary) = Served::with_metrics(&database, &settings()).await;
    let polling = Polling::open(&served.address).await;
    let calls = "{\"type\":1,\"target\":\"Nothing\",\"invocationId\":\"0\"}\u{1e}".repeat(4_000);
    while polling.post(calls.as_bytes()).await.status == 200 {}
    let metrics = served.metrics().await;
    assert!(metrics.contains("outboxd_hub_closed_total{client=\"all\",reason=\"slow\"} 1"), "{metrics}");
    served.stop().await;
}
