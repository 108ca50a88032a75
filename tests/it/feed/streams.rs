//! Event streams: what has been missed and what comes, over cut connections, other instances, stops and retention.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::{self, ALL, Event, EventStream, FEED, Served};
use super::pages::REMOVE_SEVEN;
use super::wait_for_places;
use super::writers::{self, Committed};
use crate::support::{Binary, NewRow, Proxy, TestDatabase, eventually};

async fn open(served: &Served, path: &str, last_id: Option<&str>) -> EventStream {
    EventStream::open(&served.address, path, ALL, last_id).await.expect("the feed answers").expect("a stream")
}

fn id_of(event: &Event) -> String {
    let data: Value = serde_json::from_str(&event.data).expect("the data is a CloudEvent");
    data["id"].as_str().expect("an id").to_owned()
}

fn order(number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", number).payload(json!({ "n": number }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_a_cursor_at_once_then_what_was_missed_then_what_comes() {
    let database = TestDatabase::create().await;
    let before = database.insert_events((1..=3).map(order)).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 3).await;

    let mut events = open(&served, "/v1/feed", None).await;
    let header = |name: &str| events.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!(header("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(
        (header("x-accel-buffering").as_deref(), header("cache-control").as_deref()),
        (Some("no"), Some("no-store, no-transform"))
    );
    let retry = events.next().await.and_then(|event| event.retry).expect("when to come back");
    assert!((1_000..2_000).contains(&retry), "{retry}");
    let bare = events.next().await.expect("a cursor");
    assert!(bare.id.is_some() && bare.data.is_empty() && bare.event.is_none(), "{bare:?}");
    for id in &before {
        let event = events.next().await.expect("an event");
        assert_eq!((id_of(&event), event.event.as_deref()), (id.to_string(), Some("order.placed")));
        assert_eq!(event.id, serde_json::from_str::<Value>(&event.data).expect("JSON")["cursor"].as_str().map(str::to_owned));
    }
    let after = database.insert_event(order(4)).await;
    let event = events.next_event().await.expect("an event");
    assert_eq!(id_of(&event), after.to_string());
    let comment = events.next().await.expect("a sign of life");
    assert!(comment.is_comment, "{comment:?}");

    // The one who comes back goes on behind what it names, whatever the address says.
    let last = event.id.expect("a cursor");
    let next = database.insert_event(order(5)).await;
    let mut again = open(&served, "/v1/feed?after=earliest", Some(&last)).await;
    assert_eq!(id_of(&again.next_event().await.expect("an event")), next.to_string());
    served.stop().await;
}

/// A firewall forgets every connection to the database: the one that reads the tail for all clients, and those of the relay.
#[tokio::test(flavor = "multi_thread")]
async fn streams_and_waiting_requests_go_on_although_every_connection_to_the_database_falls_silent() {
    let database = TestDatabase::create().await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let config = format!(
        "[database]\nurl = \"{url}\"\nconnect_timeout = \"1s\"\nlock_timeout = \"900ms\"\nstatement_timeout = \"1s\"\n[http]\nlisten = \"\"\n\
         [relay]\nlease = \"3s\"\n{FEED}"
    );
    let served = Served::of(&Binary::with_config(&config)).await;
    database.insert_event(order(1)).await;
    wait_for_places(&database, 1).await;
    let mut events = open(&served, "/v1/feed?after=earliest", None).await;
    assert!(events.next_event().await.is_some());
    for round in 2..=4 {
        proxy.forget();
        let id = database.insert_event(order(round)).await;
        let event = events.next_event().await.unwrap_or_else(|| panic!("{}", served.running.stderr()));
        assert_eq!(id_of(&event), id.to_string());
        let cursor = event.id.expect("a cursor");
        let path = format!("/v1/feed?wait=20s&after={cursor}");
        let (waited, next) = tokio::join!(served.ask(&path), async {
            proxy.forget();
            database.insert_event(order(round + 100)).await
        });
        // A request whose own connection was silent may have been told to try again.
        let mut answer = waited;
        while answer.status == 503 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = served.ask(&path).await;
        }
        assert_eq!((answer.status, answer.ids()), (200, vec![next.to_string()]), "{} {}", answer.body, served.running.stderr());
        assert_eq!(id_of(&events.next_event().await.unwrap_or_else(|| panic!("{}", served.running.stderr()))), next.to_string());
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_filter_lets_nothing_through_is_told_how_far_it_came() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 1).await;
    let mut events = open(&served, "/v1/feed?after=latest&type=nothing.*", None).await;
    let first = loop {
        if let Some(id) = events.next().await.expect("a cursor").id {
            break id;
        }
    };
    database.insert_events((2..=9).map(order)).await;
    wait_for_places(&database, 9).await;
    let bookmark = loop {
        let event = events.next().await.expect("a sign of life");
        assert_eq!(event.data, "");
        if let Some(id) = event.id {
            break id;
        }
    };
    assert!(bookmark > first && bookmark.starts_with("0000000000000009."), "{first} {bookmark}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_told_in_the_stream_and_another_history_by_the_status() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, FEED).await;
    let ids = database.insert_events((1..=10).map(order)).await;
    wait_for_places(&database, 10).await;
    let (second, eighth) = (served.ask("/v1/feed?limit=2").await.cursor(), served.ask("/v1/feed?limit=8").await.cursor());
    database.execute(REMOVE_SEVEN).await;

    let mut events = open(&served, "/v1/feed", Some(&second)).await;
    let gap = events.next_event().await.expect("a gap");
    let told: Value = serde_json::from_str(&gap.data).expect("JSON");
    assert_eq!((gap.event.as_deref(), &told["type"], &told["gone"]), (Some("gap"), &json!("urn:outboxd:expired"), &json!(5)));
    assert_eq!(id_of(&events.next_event().await.expect("the oldest that is kept")), ids[7].to_string());

    let forged = format!("{}00000000", &eighth[..25]);
    let refused = EventStream::open(&served.address, "/v1/feed", ALL, Some(&forged)).await.expect("answered");
    assert_eq!(refused.err().expect("no stream").status, 409);
    let nonsense = EventStream::open(&served.address, "/v1/feed", ALL, Some("nonsense")).await.expect("answered");
    assert_eq!(nonsense.err().expect("no stream").status, 400);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_every_stream_with_a_time_to_come_back() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 1).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut events = open(&served, "/v1/feed?after=latest", None).await;
        events.next().await.expect("it has begun");
        streams.push(events);
    }
    served.running.terminate();
    let ends = streams.into_iter().map(|mut events| async move {
        let mut last = None;
        while let Some(event) = events.next().await {
            last = event.retry.or(last);
        }
        last.expect("when to come back")
    });
    let mut retries = join_all(ends).await;
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 10, "not all at the same moment: {retries:?}");
    assert_eq!(served.running.finish().await.code, Some(0));
}

/// Seen: a stream noticed a reload only when it had come to the end, and a client that was removed got everything until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_catches_up_ends_when_its_client_is_removed() {
    let database = TestDatabase::create().await;
    let large = |number: i64| order(number).payload(json!({ "text": "x".repeat(200_000) }));
    database.insert_events((0..200).map(large)).await;
    let both = format!("{FEED}[[clients]]\nname = \"acme\"\ntokens = [\"token-of-acme-0123456789\"]\n");
    let binary = Binary::relay(database.url(), &both);
    let served = Served::of(&binary).await;
    wait_for_places(&database, 200).await;
    let opened = EventStream::open(&served.address, "/v1/feed", "token-of-acme-0123456789", None).await;
    let mut events = opened.expect("the feed answers").expect("a stream");
    assert!(events.next_event().await.is_some());
    // It reads no further, so most of the forty megabytes are still with the relay.
    binary.rewrite(&Binary::relay_config(database.url(), FEED));
    served.running.hang_up();
    served.running.wait_for_output("configuration reloaded").await;
    let mut count = 1;
    while events.next_event().await.is_some() {
        count += 1;
    }
    assert!(count < 200, "{count} events");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_are_fed_by_one_reader() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let (served, _) = Served::with_metrics(&database, FEED).await;
    wait_for_places(&database, 1).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut events = open(&served, "/v1/feed?after=latest", None).await;
        events.next().await.expect("it has begun");
        streams.push(events);
    }
    // All of them have come to the end and wait there.
    for events in &mut streams {
        while !events.next().await.expect("a sign of life").is_comment {}
    }
    let mut sent = Vec::new();
    for number in 2..=21 {
        sent.push(database.insert_event(order(number)).await.to_string());
    }
    for events in &mut streams {
        let mut got = Vec::new();
        while got.len() < sent.len() {
            got.push(id_of(&events.next_event().await.expect("an event")));
        }
        assert_eq!(got, sent);
    }
    let metrics = served.metrics().await;
    let reads = metrics.lines().find_map(|line| line.strip_prefix("outboxd_feed_read_duration_seconds_count ")).expect("counted");
    assert!(reads.parse::<u64>().expect("a number") <= 20, "one read for all of them: {reads}");
    assert!(metrics.contains("outboxd_feed_events_sent_total{client=\"all\"} 1000"), "{metrics}");
    served.stop().await;
}

/// A client that reads by pages, waiting at the end, until it has so many events.
async fn poll(addresses: &[String], filter: &str, until: usize) -> Vec<String> {
    let (mut after, mut found, mut turn) = ("earliest".to_owned(), Vec::new(), 0);
    while found.len() < until {
        turn += 1;
        let path = format!("/v1/feed?after={after}&limit=7&wait=2s{filter}");
        let bearer = format!("Bearer {ALL}");
        let headers = [("authorization", bearer.as_str())];
        let Ok(page) = client::ask(&addresses[turn % addresses.len()], &path, &headers).await else {
            tokio::time::sleep(Duration::from_millis(20)).await; // killed
            continue;
        };
        if page.status != 200 {
            assert_eq!(page.status, 503, "{page:?}");
            continue;
        }
        found.extend(page.ids());
        after = page.cursor();
    }
    found
}

/// A client that listens and is cut every few events, until it has so many.
async fn listen(addresses: &[String], filter: &str, until: usize) -> Vec<String> {
    let (mut last, mut found, mut turn) = (None::<String>, Vec::new(), 0);
    while found.len() < until {
        turn += 1;
        let path = format!("/v1/feed?{filter}");
        let opened = EventStream::open(&addresses[turn % addresses.len()], &path, ALL, last.as_deref()).await;
        let Ok(Ok(mut events)) = opened else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        for _ in 0..5 + turn * 3 {
            let Some(event) = events.next().await else { break };
            if let Some(id) = &event.id {
                last = Some(id.clone());
            }
            if !event.data.is_empty() {
                assert_ne!(event.event.as_deref(), Some("gap"));
                found.push(id_of(&event));
            }
            if found.len() >= until {
                break;
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_ends_with_the_same_events_in_the_same_order_whatever_is_killed_and_cut() {
    let database = TestDatabase::create().await;
    writers::prepare(&database).await;
    let binary = Binary::relay(database.url(), FEED);
    let (first, second) = (Served::of(&binary).await, Served::of(&binary).await);
    let addresses = [first.address.clone(), second.address.clone()];
    let written = join_all((0..16).map(|writer| writers::write(&database, writer, 30)));
    // Who reads while it is written does not know how much there will be: the writers are told beforehand what they write.
    let (all, paid) = expected();
    let reading = async {
        tokio::join!(
            poll(&addresses, "", all),
            poll(&addresses, "&type=order.paid", paid),
            listen(&addresses, "", all),
            listen(&addresses, "type=order.paid", paid),
            listen(&addresses[1..], "", all),
        )
    };
    let killing = async {
        wait_for_places(&database, 150).await;
        first.running.kill().await;
    };
    let (written, (polled, polled_paid, listened, listened_paid, steady), ()) = tokio::join!(written, reading, killing);
    let committed: Vec<Committed> = written.into_iter().flatten().collect();
    assert_eq!(committed.iter().map(Vec::len).sum::<usize>(), all);
    eventually("every event has its place", || async { (database.count("feed").await == all as i64).then_some(()) }).await;

    let sql = "select e.id::text, e.type from feed f join events e on e.seq = f.seq order by f.place";
    let placed: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(database.pool()).await.expect("the places");
    let ids: Vec<String> = placed.iter().map(|(id, _)| id.clone()).collect();
    let paid: Vec<String> = placed.into_iter().filter(|(_, of)| of == "order.paid").map(|(id, _)| id).collect();
    for (name, found, want) in [
        ("pages", &polled, &ids),
        ("pages of one type", &polled_paid, &paid),
        ("a stream that is cut", &listened, &ids),
        ("a stream of one type that is cut", &listened_paid, &paid),
        ("a stream of the instance that lives", &steady, &ids),
    ] {
        assert!(found == want, "{name}: {} events, {} are there", found.len(), want.len());
    }
    second.stop().await;
}

/// How many events the writers commit, and how many of them are of the one type.
fn expected() -> (usize, usize) {
    let (mut all, mut paid) = (0, 0);
    for writer in 0..16 {
        for round in (0..30).filter(|round| round % 5 != 4) {
            for number in 0..1 + (writer + round) % 4 {
                all += 1;
                paid += usize::from((round + number) % 3 == 1);
            }
        }
    }
    (all, paid)
}
