//! What a stream is made of stays: over retention, a repair of numbers and an erasure of something else.

use std::time::Duration;

use outboxd::store::{self, Stretch};
use outboxd::{Reason, Verdict};
use serde_json::{Value, json};

use super::{appended, earned, points};
use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, number, quick_handler, relay};

const NOW: Duration = Duration::from_micros(1);

/// Walks over the whole log as a relay does; gives (removed, sourced, chunks).
async fn walk(database: &TestDatabase, chunk: u32) -> (u64, u64, u32) {
    let (mut after, mut removed, mut sourced, mut chunks) = (0, 0, 0, 0);
    loop {
        let done = store::remove_finished(database.pool(), Stretch::Onwards { after }, NOW, chunk).await;
        let done = done.expect("the database answers").expect("nobody else removes");
        (removed, sourced, chunks) = (removed + done.removed, sourced + done.sourced, chunks + 1);
        after = done.last_seq.unwrap_or(after);
        if !done.has_more {
            return (removed, sourced, chunks);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_what_lies_between_the_events_of_streams_and_none_of_these() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::new();
    for n in 0..20 {
        appended(&database, "ann", &n.to_string(), earned([n])).await.expect("it is appended");
        database.insert_event(NewRow::new("order.placed").payload(json!({ "n": n }))).await;
    }
    let running = relay(&database)
        .configure(|config| {
            config.outbox.retention = Duration::from_millis(1);
            config.outbox.retention_interval = Duration::from_millis(100);
            config.outbox.retention_chunk = 7;
        })
        .configured_handler("one", recorder.handler(), |config| {
            quick_handler(config);
        })
        .start()
        .expect("the relay starts");
    let removed = || async { (database.count("events where type = 'order.placed'").await == 0).then_some(()) };
    eventually("what is finished is removed", removed).await;
    // Rounds go on: one more event is removed behind all of them.
    database.insert_event(NewRow::new("order.placed").payload(json!({ "n": 20 }))).await;
    recorder.wait_for(41).await;
    eventually("and once more", removed).await;
    running.stop().await.expect("the relay stops");
    assert_eq!(points(database.pool(), "ann").await, (0..20).collect::<Vec<_>>());
    assert_eq!(database.count("events").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_handlers_did_with_events_of_streams_goes_with_the_time_and_is_not_done_again() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|notification, _| match number(notification) {
        7 => Verdict::permanent(Reason::Refused, "never"),
        _ => Verdict::delivered(),
    });
    let with = |recorder: &Recorder| {
        relay(&database)
            .configure(|config| {
                config.outbox.retention = Duration::from_millis(1);
                config.outbox.retention_interval = Duration::from_millis(100);
                config.outbox.retention_chunk = 7;
            })
            .configured_handler("one", recorder.handler(), |config| {
                quick_handler(config);
                config.partitions = 2;
            })
    };
    for n in 0..20 {
        let event = json!([{ "type": "points.earned", "payload": { "n": n, "points": n } }]);
        appended(&database, &format!("key-{}", n % 5), "any", event).await.expect("it is appended");
    }
    let running = with(&recorder).start().expect("the relay starts");
    let forgotten = || async {
        let dead = database.count("deliveries where state = 'dead'").await == 1;
        let waiting = database.count("deliveries where state = 'waiting'").await;
        (dead && database.count("deliveries").await == 1 + waiting).then_some(())
    };
    recorder.wait_for(17).await;
    eventually("what was delivered is forgotten", forgotten).await;
    running.stop().await.expect("the relay stops");

    // Another relay reads on, and delivers nothing that was delivered.
    let again = Recorder::new();
    let running = with(&again).start().expect("the relay starts");
    appended(&database, "new", "none", json!([{ "type": "points.earned", "payload": { "n": 99, "points": 1 } }]))
        .await
        .expect("it is appended");
    again.wait_for(1).await;
    eventually("it is forgotten as well", forgotten).await;
    running.stop().await.expect("the relay stops");
    assert_eq!(again.numbers(), [99]);
    assert_eq!(database.count("events").await, 21);
}

/// 400,000 events of streams, 100,000 others among them, and an event that a handler still owes at the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_million_events_are_walked_over_once_and_only_what_may_go_is_removed() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "insert into events (type, aggregate_type, aggregate_id, aggregate_version, payload, occurred_at)
             select case n % 5 when 0 then 'order.placed' else 'points.earned' end, 'account', (n % 7)::text, null, '{}', now() - interval '1 d'
               from generate_series(1, 500000) n;
             insert into streams (type, key, version) select 'account', k::text, 1000000 from generate_series(0, 6) k;
             insert into stream_events select s.id, row_number() over (partition by s.id order by e.seq), e.seq
               from events e join streams s on s.key = e.aggregate_id where e.type = 'points.earned';",
        )
        .await;
    // Behind them in a transaction of its own: a position that has passed them all.
    let position = "insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('one', 'discard', pg_current_snapshot(), 500000, 500000)";
    database.execute(position).await;
    database
        .execute("insert into deliveries (subscription, seq, state, attempts, handled_at) values (1, 5, 'dead', 1, now())")
        .await;

    let (removed, sourced, chunks) = walk(&database, 50_000).await;
    assert_eq!((removed, sourced), (99_999, 400_000));
    assert!(chunks <= 11, "{chunks} chunks");
    assert_eq!(database.count("events where type = 'points.earned'").await, 400_000);
    assert_eq!(walk(&database, 50_000).await.0, 0);
    // What was owed goes when it is not any more, among all that stays.
    database.execute("delete from deliveries").await;
    let again = Stretch::LeftBehind { after: 0, up_to: 500_000 };
    let done =
        store::remove_finished(database.pool(), again, NOW, 100).await.expect("the database answers").expect("nobody else removes");
    assert_eq!((done.removed, done.sourced), (1, 99));
    let lost = "stream_events v where not exists (select from events e where e.seq = v.seq)";
    assert_eq!(database.count(lost).await, 0);
}

/// As after a restore that forgot a table: there is nothing to fold, but nothing is lost for good either.
#[tokio::test(flavor = "multi_thread")]
async fn events_whose_versions_were_lost_are_not_removed_while_their_stream_is_known() {
    let database = TestDatabase::create().await;
    appended(&database, "ann", "none", earned(1..=5)).await.expect("it is appended");
    let numbered = "insert into events (type, aggregate_type, aggregate_id, aggregate_version, payload) values ('order.placed', 'order', '7', 1, '{}')";
    database.execute(numbered).await;
    let position = "insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('one', 'discard', pg_current_snapshot(), 6, 6)";
    database.execute(position).await;
    database.execute("delete from stream_events where version > 2").await;
    assert_eq!(walk(&database, 100).await, (1, 2, 1), "only the one that has a version and no stream goes");
    assert_eq!(database.count("events where type = 'points.earned'").await, 5);
    // The versions are in the events.
    database
        .execute(
            "insert into stream_events select s.id, e.aggregate_version, e.seq from events e
               join streams s on s.type = e.aggregate_type and s.key = e.aggregate_id on conflict do nothing",
        )
        .await;
    assert_eq!(points(database.pool(), "ann").await, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_of_numbers_takes_the_stream_with_it() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::new();
    for n in 0..3 {
        database.insert_event(NewRow::new("order.placed").payload(json!({ "n": n }))).await;
    }
    let running = relay(&database).configured_handler("one", recorder.handler(), quick_handler).start().expect("the relay starts");
    recorder.wait_for(3).await;
    running.stop().await.expect("the relay stops");
    // As after a restore that forgot the sequence: numbers that were used are given to events of a stream.
    database.execute("set outboxd.changes_log = 'on'; truncate events; select setval('events_seq_seq', 1)").await;
    appended(&database, "ann", "none", earned([7])).await.expect("it is appended");
    let rebased = Binary::with_config("").run(&["rebase", "--yes", "--json", "--database-url", database.url()]).await;
    assert_eq!(rebased.code, Some(0), "{rebased:?}");
    assert_eq!(points(database.pool(), "ann").await, [7]);
    assert!(super::number(database.pool(), "select seq from stream_events").await > 3);
}

async fn erase(database: &TestDatabase, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let all =
        [&["events", "erase", "--because", "OPS-1", "--yes", "--json"], arguments, &["--database-url", database.url()]].concat();
    let finished = Binary::with_config("").run(&all).await;
    (finished.code, serde_json::from_str(&finished.stdout).unwrap_or_default(), finished.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_is_made_of_is_erased_only_when_that_is_said() {
    let database = TestDatabase::create().await;
    appended(&database, "ann", "none", earned([1, 2, 3])).await.expect("it is appended");
    database.insert_event(NewRow::new("note").of("account", "ann")).await;
    database
        .execute("insert into stream_states (stream, shape, version, state) select id, 1, 3, '{\"points\": 6}' from streams")
        .await;

    let (code, report, said) = erase(&database, &["--key", "account/ann"]).await;
    assert_eq!(
        (code, &report["matched"], &report["sourced"], &report["erased"]),
        (Some(1), &json!(4), &json!(3), &json!(1)),
        "{said}"
    );
    assert!(said.contains("3 of them are versions of streams") && said.contains("--include-sourced"), "{said}");
    assert_eq!((points(database.pool(), "ann").await, database.count("stream_states").await), (vec![1, 2, 3], 1));

    let (code, report, said) = erase(&database, &["--key", "account/ann", "--include-sourced"]).await;
    assert_eq!((code, &report["erased"]), (Some(0), &json!(3)), "{said}");
    assert_eq!((database.count("events").await, database.count("stream_states").await), (0, 0));
    // The versions stay, so that the key is not taken for a new one.
    assert_eq!(appended(&database, "ann", "none", earned([9])).await.expect_err("there was one").code, "OB001");
}

#[tokio::test]
async fn an_event_of_a_stream_cannot_be_deleted_by_hand_and_a_test_may_empty_all() {
    let database = TestDatabase::create().await;
    appended(&database, "ann", "none", earned([1])).await.expect("it is appended");
    let refused = sqlx::query("delete from outbox.events").execute(database.pool()).await.expect_err("a stream needs it");
    let refused = super::Refusal::of(refused);
    assert_eq!(
        (refused.code.as_str(), refused.message.contains("version 1 of the stream account/ann")),
        ("55000", true),
        "{refused:?}"
    );
    database.execute("select truncate_log()").await;
    assert_eq!((database.count("events").await, database.count("streams").await, database.count("stream_events").await), (0, 0, 0));
    assert_eq!(appended(&database, "ann", "none", earned([1])).await, Ok(1));
}
