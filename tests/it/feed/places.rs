//! Places: each event of the feed has one, in an order that follows the commits, whoever gives them and whatever dies meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use outboxd::store::Fence;
use outboxd::store::feed::{begin_epoch, publish_window};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::writers::{self, Committed};
use super::{places, publishing, wait_for_places};
use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, own_server, relay};

const FEED: &str = "[feed]\nevents = [\"*\"]\n";

async fn events_by_place(database: &TestDatabase) -> Vec<(i64, Uuid)> {
    let sql = "select f.place, e.id from feed f join events e on e.seq = f.seq order by f.place";
    sqlx::query_as(sql).fetch_all(database.pool()).await.expect("the places")
}

/// Places are 1, 2, 3 ..; each committed event has exactly one, and the versions of an aggregate rise with its places.
fn assert_in_order(placed: &[(i64, Uuid)], committed: &[Committed]) {
    let numbers: Vec<i64> = placed.iter().map(|(place, _)| *place).collect();
    assert_eq!(numbers, (1..=placed.len() as i64).collect::<Vec<_>>(), "the places are dense");
    let mut found: Vec<Uuid> = placed.iter().map(|(_, id)| *id).collect();
    let place_of: HashMap<Uuid, usize> = found.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let mut wanted: Vec<Uuid> = committed.iter().flatten().map(|(id, ..)| *id).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert!(found == wanted, "{} events are committed, {} have a place", wanted.len(), found.len());
    let mut versions: HashMap<&str, Vec<(usize, i64)>> = HashMap::new();
    for (id, aggregate, version) in committed.iter().flatten() {
        versions.entry(aggregate).or_default().push((place_of[id], *version));
    }
    for (aggregate, mut versions) in versions {
        versions.sort_unstable();
        assert!(versions.is_sorted_by_key(|(_, version)| *version), "{aggregate} goes back: {versions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_follow_the_commits_whatever_the_writers_do_and_whoever_is_killed() {
    let database = TestDatabase::create().await;
    writers::prepare(&database).await;
    let binary = Binary::relay(database.url(), FEED);
    let (first, second) = (binary.spawn(&["run"]), binary.spawn(&["run"]));
    let writing = join_all((0..16).map(|writer| writers::write(&database, writer, 30)));
    let killing = async {
        wait_for_places(&database, 50).await;
        first.kill().await;
        wait_for_places(&database, 100).await;
        second.freeze();
        let third = binary.spawn(&["run"]);
        eventually("the third relay owns the feed", || async {
            let owners = "subscriptions where lease_until > clock_timestamp() and owner in (select id from instances where pid = ";
            (database.count(&format!("{owners}{})", third.pid())).await == 1).then_some(())
        })
        .await;
        second.thaw();
        (second, third)
    };
    let (written, (second, third)) = tokio::join!(writing, killing);
    let committed: Vec<Committed> = written.into_iter().flatten().collect();
    let count: usize = committed.iter().map(Vec::len).sum();
    wait_for_places(&database, count as i64).await;
    for relay in [second, third] {
        relay.terminate();
        assert_eq!(relay.finish().await.code, Some(0));
    }

    assert_in_order(&events_by_place(&database).await, &committed);
    assert_eq!(database.count("feed_epochs").await, 1, "it is one server");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_transaction_stay_together_beside_sixteen_writers() {
    let database = TestDatabase::create().await;
    writers::prepare(&database).await;
    let relay = publishing(&database, &["*"]).start().expect("the relay starts");
    let written = join_all((0..16).map(|writer| writers::write(&database, writer, 30))).await;
    let committed: Vec<Committed> = written.into_iter().flatten().collect();
    wait_for_places(&database, committed.iter().map(Vec::len).sum::<usize>() as i64).await;
    relay.stop().await.expect("the relay stops");

    let placed = events_by_place(&database).await;
    assert_in_order(&placed, &committed);
    let place_of: HashMap<Uuid, i64> = placed.iter().map(|(place, id)| (*id, *place)).collect();
    for transaction in &committed {
        let first = place_of[&transaction[0].0];
        let apart = transaction.iter().enumerate().any(|(number, (id, ..))| place_of[id] != first + number as i64);
        assert!(!apart, "a transaction is torn: {transaction:?}");
    }
}

/// The subscription of the feed as this test owns it, at the end of the log.
async fn own_feed(database: &TestDatabase) -> Fence {
    let sql = "insert into subscriptions (handler, kind, snapshot, low_seq, high_seq, owner, epoch)
               values ('feed', 'feed', pg_current_snapshot(), last_seq(), last_seq(), 'test', 1) returning id";
    let subscription: i32 = sqlx::query_scalar(sql).fetch_one(database.pool()).await.expect("a subscription");
    Fence { subscription, epoch: 1 }
}

async fn session(database: &TestDatabase) -> PgConnection {
    let mut connection = PgConnection::connect(database.url()).await.expect("a connection");
    sqlx::raw_sql("set search_path = outbox, pg_catalog").execute(&mut connection).await.expect("set");
    connection
}

async fn position(database: &TestDatabase) -> outboxd::domain::Snapshot {
    let text: String =
        sqlx::query_scalar("select snapshot::text from subscriptions").fetch_one(database.pool()).await.expect("a position");
    text.parse().expect("a snapshot")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_publish_the_same_window_one_gives_the_places() {
    let database = TestDatabase::create().await;
    let fence = own_feed(&database).await;
    let timeline = begin_epoch(database.pool(), fence).await.expect("an epoch").timeline;
    let mut sessions = [session(&database).await, session(&database).await];
    for round in 1..=40 {
        database.insert_events((0..5).map(|n| NewRow::new("t").of("a", n))).await;
        let begin = position(&database).await;
        // The same epoch on purpose: a lost answer leaves a publisher with an idea of the past.
        let [one, two] = &mut sessions;
        let (one, two) = tokio::join!(
            publish_window(one, fence, &begin, 100, None, &timeline, false),
            publish_window(two, fence, &begin, 100, None, &timeline, false),
        );
        let moved = [one.expect("no error"), two.expect("no error")].iter().filter(|published| published.is_moved).count();
        assert_eq!((moved, database.count("feed").await), (1, round * 5), "round {round}");
    }
    let stale = Fence { epoch: 0, ..fence };
    database.insert_event(NewRow::new("t")).await;
    let lost =
        publish_window(&mut sessions[0], stale, &position(&database).await, 100, None, &timeline, false).await.expect("no error");
    assert!(!lost.is_moved && lost.rows == 1, "{lost:?}");
    let elsewhere = publish_window(&mut sessions[0], fence, &position(&database).await, 100, None, "0000FFFF", false).await;
    let elsewhere = elsewhere.expect("no error");
    assert!(!elsewhere.is_moved && !elsewhere.is_same_timeline, "{elsewhere:?}");
    assert_eq!(database.count("feed").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_more_than_ten_thousand_events_is_published_by_pages() {
    let database = TestDatabase::create().await;
    let relay = publishing(&database, &["wanted"]).start().expect("the relay starts");
    database.insert_event(NewRow::new("wanted")).await;
    wait_for_places(&database, 1).await;
    relay.stop().await.expect("the relay stops");
    let sql = "insert into events (type, payload) select case n % 2 when 0 then 'wanted' else 'other' end, '{}' from generate_series(1, 44000) n;
               select setval('events_seq_seq', 500000); insert into events (type, payload) values ('wanted', '{}')";
    database.execute(sql).await;

    let relay = publishing(&database, &["wanted"]).start().expect("the relay starts");
    wait_for_places(&database, 22_002).await;
    database.insert_event(NewRow::new("wanted")).await;
    wait_for_places(&database, 22_003).await;
    relay.stop().await.expect("the relay stops");

    let placed = places(&database).await;
    assert!(placed.iter().enumerate().all(|(index, (place, _))| *place == index as i64 + 1), "the places are dense");
    assert!(placed.is_sorted_by_key(|(_, seq)| *seq));
    assert_eq!(database.count("types").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_stays_as_long_as_its_event_and_the_highest_that_is_gone_is_remembered() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let start = |retention: u64| {
        let relay = publishing(&database, &["order.*"]).handler("all", &[], recorder.handler());
        let relay = relay.configure(|config| {
            (config.outbox.retention, config.outbox.retention_interval) =
                (Duration::from_millis(retention), Duration::from_millis(50));
        });
        relay.start().expect("the relay starts")
    };
    let relay = start(3_600_000);
    let ids =
        database.insert_events((0..6).map(|n| NewRow::new(if n == 3 { "secret" } else { "order.placed" }).of("order", n))).await;
    wait_for_places(&database, 5).await;
    recorder.wait_for(6).await;
    relay.stop().await.expect("the relay stops");
    // The first event is owed, so it stays, and its place with it.
    let owe = format!(
        "update deliveries set state = 'dead', handled_at = now() where seq = (select seq from events where id = '{}')",
        ids[0]
    );
    database.execute(&owe).await;

    let relay = start(1);
    eventually("everything else is gone", || async { (database.count("events").await == 1).then_some(()) }).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(places(&database).await.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1]);
    let removed: (i64, i64, Option<Uuid>) =
        sqlx::query_as("select place, events, event from feed_removed").fetch_one(database.pool()).await.expect("one row");
    assert_eq!(removed, (5, 4, Some(ids[5])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_gives_places_to_types_that_were_added_and_no_event_a_second_one() {
    let database = TestDatabase::create().await;
    let relay = publishing(&database, &["a"]).start().expect("the relay starts");
    database.insert_events(["a", "b", "a", "b"].map(NewRow::new)).await;
    wait_for_places(&database, 2).await;
    relay.stop().await.expect("the relay stops");
    let before = places(&database).await;

    let relay = publishing(&database, &["a", "b"]).start().expect("the relay starts");
    eventually("the relay owns the feed", || async {
        (database.count("subscriptions where owner is not null").await == 1).then_some(())
    })
    .await;
    let binary = Binary::relay(database.url(), "[feed]\nevents = [\"a\", \"b\"]\n");
    let rewound = binary.run(&["handlers", "rewind", "feed", "--to", "beginning", "--force", "--yes"]).await;
    assert_eq!(rewound.code, Some(0), "{rewound:?}");
    wait_for_places(&database, 4).await;
    database.insert_event(NewRow::new("b")).await;
    wait_for_places(&database, 5).await;
    relay.stop().await.expect("the relay stops");

    let after = places(&database).await;
    assert_eq!(after[..2], before[..]);
    assert_eq!(after.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_paused_shown_and_counted_as_a_handler_is() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay_with_http(database.url(), FEED);
    let (running, address) = binary.serve().await;
    eventually("the relay owns the feed", || async {
        (database.count("subscriptions where owner is not null").await == 1).then_some(())
    })
    .await;
    assert_eq!(binary.run(&["handlers", "pause", "feed", "--because", "moving"]).await.code, Some(0));
    eventually("the loop has heard of it", || async {
        let metrics = crate::support::get(&address, "/metrics").await.expect("it serves").1;
        metrics.contains("outboxd_handler_paused{handler=\"feed\"} 1").then_some(())
    })
    .await;
    database.insert_events((0..3).map(|_| NewRow::new("t"))).await;
    let status = binary.run(&["status"]).await.stdout;
    assert!(status.contains("feed") && status.contains("paused"), "{status}");
    assert_eq!(database.count("feed").await, 0);

    assert_eq!(binary.run(&["handlers", "resume", "feed"]).await.code, Some(0));
    wait_for_places(&database, 3).await;
    eventually("the metrics tell", || async {
        let metrics = crate::support::get(&address, "/metrics").await.expect("it serves").1;
        (metrics.contains("outboxd_feed_places_total 3") && metrics.contains("outboxd_feed_last_place 3")).then_some(())
    })
    .await;
    let verified = binary.run(&["verify"]).await;
    assert!(verified.code == Some(0) && verified.stdout.contains("feed"), "{verified:?}");
    let doctor = binary.run(&["doctor"]).await;
    assert!(!doctor.stdout.contains("handler feed"), "{}", doctor.stdout);
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_a_feed_writes_nothing_of_one() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    database.insert_event(NewRow::new("t").payload(json!({ "n": 1 }))).await;
    recorder.wait_for(1).await;
    relay.stop().await.expect("the relay stops");
    for what in ["feed", "types", "feed_epochs", "subscriptions where kind = 'feed'", "feed_places"] {
        assert_eq!(database.count(what).await, 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_outbox_begins_another_epoch_and_gives_no_event_a_second_place() {
    let server = own_server(&[]).await;
    let url = |name: &str| server.url(name);
    let mut admin = PgConnection::connect(&url("template1")).await.expect("a connection");
    let first = Binary::relay(&url("postgres"), FEED);
    assert_eq!(first.run(&["migrate"]).await.code, Some(0));
    let running = first.spawn(&["run"]);
    let mut original = PgConnection::connect(&url("postgres")).await.expect("a connection");
    let insert = "insert into outbox.events (type, payload) select 't', '{}' from generate_series(1, 10)";
    sqlx::raw_sql(insert).execute(&mut original).await.expect("recorded");
    let placed = async |connection: &mut PgConnection, wanted: i64| loop {
        let found: i64 = sqlx::query_scalar("select count(*) from outbox.feed").fetch_one(&mut *connection).await.expect("a count");
        if found >= wanted {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    placed(&mut original, 10).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
    sqlx::raw_sql(insert).execute(&mut original).await.expect("recorded");
    original.close().await.expect("closed");
    sqlx::raw_sql("create database copied template postgres").execute(&mut admin).await.expect("a copy");

    let copied = Binary::relay(&url("copied"), FEED);
    assert_eq!(copied.run(&["rebase", "--yes"]).await.code, Some(0));
    let running = copied.spawn(&["run"]);
    let mut copy = PgConnection::connect(&url("copied")).await.expect("a connection");
    placed(&mut copy, 20).await;
    sqlx::raw_sql(insert).execute(&mut copy).await.expect("recorded");
    assert_eq!(placed(&mut copy, 30).await, 30);
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));

    let epochs: Vec<(i32, i64, String)> = sqlx::query_as("select number, began_after, why from outbox.feed_epochs order by number")
        .fetch_all(&mut copy)
        .await
        .expect("the epochs");
    assert_eq!(epochs, [(1, 0, "first".to_owned()), (2, 10, "rebase".to_owned())]);
    let places: i64 = sqlx::query_scalar("select max(place) from outbox.feed").fetch_one(&mut copy).await.expect("a place");
    assert_eq!(places, 30);
}
