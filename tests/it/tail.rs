//! Many handlers of one relay: the log is read once for all of them, and none of them sees more or less for it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outboxd::domain::{Hashes, Notification, Share};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Answer, Binary, NewRow, Receiver, TestDatabase, eventually};

/// How often the server has looked into the window index of the log. Sessions tell it up to some seconds late.
async fn reads(database: &TestDatabase) -> i64 {
    sqlx::query_scalar("select coalesce(sum(idx_scan), 0)::int8 from pg_stat_user_indexes where indexrelname = 'events_window'")
        .fetch_one(database.pool())
        .await
        .expect("the server counts")
}

async fn insert_steadily(database: &TestDatabase, event_type: &str, count: usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for number in 0..count {
        ticks.tick().await;
        database.insert_event(NewRow::new(event_type).of("order", number % 7)).await;
    }
}

/// Seen: each of a hundred handlers read the log by itself, for events of which it wanted none.
#[tokio::test(flavor = "multi_thread")]
async fn events_for_one_of_many_handlers_are_read_once() {
    let database = TestDatabase::create().await;
    let entries: String =
        (0..60).map(|n| format!("[[handlers]]\nname = \"h{n}\"\nkind = \"discard\"\nevents = [\"type_{n}.*\"]\n")).collect();
    let running = Binary::relay(database.url(), &entries).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    // All have found the end of the log, and follow.
    insert_steadily(&database, "type_0.placed", 100).await;
    eventually("those are delivered", || async { (database.count("deliveries").await == 100).then_some(()) }).await;
    let mut fewest = i64::MAX;
    for _ in 0..4 {
        let before = reads(&database).await;
        insert_steadily(&database, "type_1.placed", 250).await;
        fewest = fewest.min(reads(&database).await - before);
    }
    println!("60 handlers: {fewest} scans for 250 events");
    assert!(fewest < 2 * 250 * 8, "{fewest} scans for 250 events: each handler reads for itself");
    eventually("all are delivered", || async { (database.count("deliveries").await == 1_100).then_some(()) }).await;
    // Those who wanted none of it must not look as if they were behind.
    let behind = "subscriptions where not pg_visible_in_snapshot((select tx from events order by seq desc limit 1), snapshot)";
    eventually("every position has passed them", || async { (database.count(behind).await == 0).then_some(()) }).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// Seen before partitions could follow: each of them read every window, and threw most of it away.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_partitions_read_the_log_once_and_keep_every_key_in_order() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let handler = format!(
        "[[handlers]]\nname = \"split\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\npartitions = 200\n",
        receiver.url()
    );
    let running = Binary::relay(database.url(), &handler).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    insert_steadily(&database, "order.placed", 100).await;
    eventually("those are delivered", || async { (database.count("deliveries").await == 100).then_some(()) }).await;
    let mut fewest = i64::MAX;
    for _ in 0..4 {
        let before = reads(&database).await;
        insert_steadily(&database, "order.placed", 250).await;
        fewest = fewest.min(reads(&database).await - before);
    }
    println!("200 partitions: {fewest} scans for 250 events");
    assert!(fewest < 2 * 250 * 8, "{fewest} scans for 250 events: each partition reads for itself");
    eventually("all are delivered", || async { (database.count("deliveries").await == 1_100).then_some(()) }).await;
    let ids: Vec<(Uuid, String)> =
        sqlx::query_as("select id, aggregate_id from events order by seq").fetch_all(database.pool()).await.expect("the events");
    let key: BTreeMap<Uuid, String> = ids.iter().cloned().collect();
    let by_key = |ids: Vec<Uuid>| {
        let mut all: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
        ids.into_iter().for_each(|id| all.entry(key[&id].as_str()).or_default().push(id));
        all
    };
    let received = receiver.received().iter().map(|request| request.id.parse().expect("an id")).collect();
    assert_eq!(by_key(received), by_key(ids.iter().map(|(id, _)| *id).collect()), "once each, in the order of its key");
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// In memory and in SQL an event is in the same partition, whatever its key is made of.
#[tokio::test]
async fn the_relay_splits_events_as_the_server_does() {
    let database = TestDatabase::create().await;
    let mut random = fastrand::Rng::with_seed(7);
    for length in (0..80).chain([255, 256, 4_000]) {
        let id: String = (0..length)
            .map(|_| if random.u8(..4) == 0 { random.char('\u{1}'..'\u{1fffe}') } else { random.alphanumeric() })
            .collect();
        for aggregate in [Some(id.as_str()), None] {
            let seq = random.i64(1..1 << (1 + length % 62));
            let partitions = random.u16(2..=1_024);
            let found: i32 = sqlx::query_scalar("select partition_of(ordering_key($1, $2, '{}', '{}', 'aggregate', '{}'), $3, $4)")
                .bind(Some("ordér").filter(|_| length % 3 > 0))
                .bind(aggregate)
                .bind(seq)
                .bind(i32::from(partitions))
                .fetch_one(database.pool())
                .await
                .expect("a partition");
            let event = Notification {
                seq,
                aggregate_type: Some("ordér".to_owned()).filter(|_| length % 3 > 0),
                aggregate_id: aggregate.map(str::to_owned),
                ..Notification::sample("t", "{}")
            };
            let has = |at: &u16| Share::of(partitions, *at, true).has(&event, &mut Hashes::default());
            assert_eq!((0..partitions).find(has).map(i32::from), Some(found), "{aggregate:?} {seq} {partitions}");
        }
    }
    assert!(outboxd::store::splits_alike(database.pool()).await.expect("it tells"));
}

/// What each handler wants, as the configuration says it and as the server finds it.
const WANTED: [(&str, &str, &str); 10] = [
    ("all", "", "true"),
    ("unordered", "ordering = \"none\"\n", "true"),
    ("parts", "partitions = 3\n", "true"),
    ("loose_parts", "ordering = \"none\"\npartitions = 2\n", "true"),
    ("exact", "events = [\"order.placed\", \"order.paid\"]\n", "type in ('order.placed', 'order.paid')"),
    ("glob", "events = [\"*.p*d\"]\n", "type like '%.p%d'"),
    ("tenant", "where_headers = { tenant = \"t1\" }\n", "headers @> '{\"tenant\": \"t1\"}'"),
    ("flags", "where_headers = { flag = true, tenant = \"ü\\\"2\" }\n", "headers @> '{\"flag\": true, \"tenant\": \"ü\\\"2\"}'"),
    ("number", "where_headers = { n = 5 }\n", "headers @> '{\"n\": 5}'"),
    ("users", "aggregate_types = [\"user\"]\n", "aggregate_type = 'user'"),
];

fn row(number: usize) -> NewRow {
    let event_type = ["order.placed", "order.paid", "order.sent", "user.pruned", "order_placed"][number % 5];
    let headers = match number % 7 {
        0 => json!({ "tenant": "t1" }),
        1 => json!({ "tenant": "ü\"2", "flag": true }),
        2 => json!({ "tenant": "ü\"2", "flag": "true", "n": 5 }),
        3 => json!({ "n": 5.0, "tenant": ["t1"] }),
        4 => json!({ "n": "5", "nested": { "tenant": "t1" } }),
        _ => json!({}),
    };
    let row = NewRow::new(event_type).headers(headers);
    match number % 6 {
        // Of each key one writer: what commits later than a higher number has no order with it.
        0 => row,
        1 => row.of("user", number % 4),
        _ => row.of("order", number % 44),
    }
}

/// A receiver that is away for a while, and remembers what it took.
struct Taker {
    receiver: Receiver,
    is_away: Arc<AtomicBool>,
    ids: Arc<Mutex<Vec<String>>>,
}

impl Taker {
    async fn start() -> Self {
        let (is_away, ids) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (away, taken) = (Arc::clone(&is_away), Arc::clone(&ids));
        let receiver = Receiver::answering(move |request| {
            if away.load(Relaxed) {
                return Answer::status(401);
            }
            taken.lock().expect("nobody panics").push(request.id.clone());
            Answer::ok()
        });
        Self { receiver: receiver.await, is_away, ids }
    }

    fn taken(&self) -> Vec<String> {
        self.ids.lock().expect("nobody panics").clone()
    }
}

/// Handlers that are paused, whose receiver is away, that come and go with a reload, beside others that only follow: every one gets
/// what the same filter finds in the table, once, and each key in order.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_and_comes_back_gets_what_its_filter_finds() {
    let database = TestDatabase::create().await;
    let takers: Vec<Taker> = futures_util::future::join_all(WANTED.iter().map(|_| Taker::start())).await;
    let entry = |place: usize| {
        let (name, filter, _) = WANTED[place];
        format!(
            "[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n\
             circuit = {{ first_probe = \"50ms\", max_probe = \"100ms\" }}\n{filter}",
            takers[place].receiver.url()
        )
    };
    let entries: String = (0..WANTED.len()).map(entry).collect();
    let binary = Binary::relay(database.url(), &entries);
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let writers = async {
        let writer = |offset: usize| {
            let database = &database;
            async move {
                for number in 0..250 {
                    database.insert_event(row(number * 4 + offset)).await;
                }
            }
        };
        tokio::join!(writer(0), writer(1), writer(2), writer(3));
    };
    let trouble = async {
        for round in 0..6 {
            let name = WANTED[round % WANTED.len()].0;
            let paused = binary.run(&["handlers", "pause", name, "--because", "a test"]).await;
            assert_eq!(paused.code, Some(0), "{paused:?}");
            let away = &takers[(round * 3 + 1) % WANTED.len()].is_away;
            away.store(true, Relaxed);
            tokio::time::sleep(Duration::from_millis(400)).await;
            away.store(false, Relaxed);
            assert_eq!(binary.run(&["handlers", "resume", name]).await.code, Some(0));
        }
    };
    tokio::join!(writers, trouble);
    for (place, (name, _, condition)) in WANTED.iter().enumerate() {
        let want: Vec<(Uuid, Option<String>)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "select id, aggregate_type || '/' || aggregate_id from outbox.events where {condition} order by seq"
        )))
        .fetch_all(database.pool())
        .await
        .expect("the log");
        assert!(!want.is_empty(), "{name} wants something");
        let order: BTreeMap<String, usize> = want.iter().enumerate().map(|(at, (id, _))| (id.to_string(), at)).collect();
        eventually(&format!("{name} has got all"), || async { (takers[place].taken().len() >= want.len()).then_some(()) }).await;
        let got = takers[place].taken();
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for id in &got {
            let at = *order.get(id).unwrap_or_else(|| panic!("{name} does not want {id}"));
            if let Some(key) = want[at].1.as_deref().filter(|_| !["unordered", "loose_parts"].contains(name)) {
                let before = last.insert(key, at);
                assert!(before.is_none_or(|before| before < at), "{name}: the key {key} in order");
            }
        }
        assert_eq!(got.len(), want.len(), "{name} gets each once");
    }
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// More bytes than the tail takes at once, and a burst: each handler reads them for itself, and follows again.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_tail_cannot_take_each_handler_reads_for_itself() {
    let database = TestDatabase::create().await;
    let entries =
        "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n[[handlers]]\nname = \"other\"\nkind = \"discard\"\nevents = [\"a*\"]\n";
    let running = Binary::relay(database.url(), entries).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let delivered = |count: i64| {
        let database = &database;
        eventually("both have it", move || async move {
            (database.count("deliveries where state = 'delivered'").await == 2 * count).then_some(())
        })
    };
    database.insert_event(NewRow::new("a")).await;
    delivered(1).await;
    database.insert_events((0..8).map(|_| NewRow::new("a").payload(json!({ "x": "y".repeat(900_000) })))).await;
    delivered(9).await;
    database.insert_events((0..9_000).map(|_| NewRow::new("ab"))).await;
    delivered(9_009).await;
    database.insert_event(NewRow::new("a")).await;
    delivered(9_010).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}
