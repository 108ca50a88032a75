//! What the next owner of a subscription makes of what the last one left: what it had settled ahead of the position, and what waits.

use std::time::Duration;

use outboxd::Verdict;
use outboxd::domain::Record;
use serde_json::json;

use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, number, quick_handler, relay};

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

/// Seen: what an owner had settled without a row was forgotten as soon as its successor had read over it, although the position still
/// stood before it; the next but one delivered it once more.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_without_a_row_is_remembered_until_the_position_has_passed_it() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=10).map(|n| NewRow::new("t").of("order", n).payload(json!({ "n": n })))).await;
    // The first owner had settled 6 to 10, and nothing before them.
    database
        .execute("insert into subscriptions (handler, kind, snapshot, low_seq, high_seq, done) values ('all', 'code', '3:3:', 0, 10, '{[6,11)}')")
        .await;
    let stuck = Recorder::answering_later(|notification, _| {
        let is_stuck = number(notification) == 1;
        async move { if is_stuck { std::future::pending().await } else { Verdict::delivered() } }
    });
    let start = |recorder: &Recorder| {
        relay(&database)
            .configure(|config| config.relay.drain_timeout = Duration::from_millis(100))
            .configured_handler("all", recorder.handler(), |config| {
                config.record = Record::Failures;
                config.timeout = Duration::from_secs(3600);
            })
            .start()
            .expect("the relay starts")
    };
    let second = start(&stuck);
    stuck.wait_for(4).await;
    eventually("what it has settled is stored", || async {
        (database.count("subscriptions where done @> int8range(2, 6)").await == 1).then_some(())
    })
    .await;
    second.stop().await.expect("the relay stops");

    let last = Recorder::new();
    let third = start(&last);
    eventually("everything is settled", || async {
        (database.count("event_states where state = 'pending'").await == 0).then_some(())
    })
    .await;
    third.stop().await.expect("the relay stops");

    assert_eq!(last.numbers(), [1]);
}

/// Seen: a busy key whose lane was full had its later events recorded as waiting while the earlier ones were in memory only; the next
/// owner began with those that waited, and the earlier ones came from the log behind them.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_of_a_busy_key_stays_behind_what_its_last_owner_had_in_memory() {
    const COUNT: i64 = 1_200;
    for record in [Record::All, Record::Failures] {
        let database = TestDatabase::create().await;
        let start = |recorder: &Recorder| {
            relay(&database)
                .configure(|config| config.relay.drain_timeout = Duration::from_millis(100))
                .configured_handler("all", recorder.handler(), move |config| {
                    quick_handler(config);
                    config.record = record;
                    config.timeout = Duration::from_secs(3600);
                })
                .start()
                .expect("the relay starts")
        };
        let stuck = Recorder::answering_later(|notification, _| {
            let is_stuck = number(notification) == 5;
            async move { if is_stuck { std::future::pending().await } else { Verdict::delivered() } }
        });
        database.insert_events((1..=COUNT).map(|n| numbered("busy", n))).await;
        let first = start(&stuck);
        stuck.wait_for(4).await;
        eventually("the lane is full", || async {
            (database.count("deliveries where state = 'waiting'").await > 100).then_some(())
        })
        .await;
        first.stop().await.expect("the relay stops");

        let recorder = Recorder::new();
        let second = start(&recorder);
        recorder.wait_for_ids(COUNT as usize - 4).await;
        second.stop().await.expect("the relay stops");

        assert_eq!(recorder.numbers(), (5..=COUNT).collect::<Vec<_>>(), "{record:?}");
        assert_eq!(database.count("deliveries where state <> 'delivered'").await, 0);
    }
}

/// Seen in a run under faults: what its last owner had settled behind a slow event was understood anew for every row that was read, so
/// that each read met its time limit, and the loop began again and again for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_takes_over_much_that_is_settled_out_of_order_reads_on() {
    const EVENTS: i64 = 60_000;
    let database = TestDatabase::create().await;
    let handler = "[[handlers]]\nname = \"all\"\nkind = \"discard\"\nrecord = \"failures\"\nstart = \"beginning\"\n";
    let config = Binary::relay_config(database.url(), handler);
    let (head, rest) = config.split_once("[database]\n").expect("it names a database");
    let binary = Binary::with_config(&format!("{head}[database]\nstatement_timeout = \"2s\"\n{rest}"));
    let first = binary.spawn(&["run"]);
    wait_for_rows(&database, "subscriptions", 1).await;
    first.kill().await;
    database
        .execute(&format!(
            "insert into outbox.events (type, payload) select 'a', '{{}}' from generate_series(1, {EVENTS});
             update outbox.subscriptions
                set owner = null, lease_until = null,
                    done = (select range_agg(int8range(n, n + 1)) from generate_series(1, {EVENTS}, 2) n)"
        ))
        .await;
    let _second = binary.spawn(&["run"]);
    wait_for_rows(&database, &format!("subscriptions where high_seq >= {EVENTS} and done is null"), 1).await;
}

/// Seen: an owner died, so its successor counted each attempt before it was made, and with each outcome wrote anew what had been settled out
/// of order: twelve events a second.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_counted_one_by_one_without_writing_again_what_was_settled_out_of_order() {
    const EVENTS: i64 = 60_000;
    let database = TestDatabase::create().await;
    database
        .execute(&format!(
            "insert into events (type, payload) select 'a', json_build_object('n', n) from generate_series(1, {EVENTS}) n;
             insert into subscriptions (handler, kind, snapshot, low_seq, high_seq, owner, lease_until, done)
             select 'all', 'code', '3:3:', 0, {EVENTS}, gen_random_uuid(), now() - interval '1 minute',
                    range_agg(int8range(n, n + 1)) from generate_series(1, {EVENTS}, 2) n"
        ))
        .await;
    let recorder = Recorder::new();
    let relay = relay(&database).configured_handler("all", recorder.handler(), quick_handler).start().expect("the relay starts");
    recorder.wait_for(100).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers()[..100], (1..=100).map(|n| 2 * n).collect::<Vec<_>>());
    let size: i64 =
        sqlx::query_scalar("select pg_total_relation_size('subscriptions')").fetch_one(database.pool()).await.expect("a size");
    assert!(size < 3_000_000, "it grew to {size} bytes");
}

/// A backlog is compared with what its last owner has settled, and beyond the last of that it is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_owner_settled_far_ahead_is_left_out_and_nothing_else_is() {
    const EVENTS: i64 = 1_500;
    // On and beside the ends of pages, which have 256 rows here.
    const LAST_SETTLED: [i64; 5] = [1, 255, 256, 257, 700];
    for record in [Record::All, Record::Failures] {
        let database = TestDatabase::create().await;
        database.insert_events((1..=EVENTS).map(|n| numbered(n, n))).await;
        let mut building = relay(&database);
        let mut all = Vec::new();
        for (id, last) in (1..).zip(LAST_SETTLED) {
            let is_settled = move |n: i64| n == last || (n < last && n % 3 == 0);
            let settled: Vec<i64> = (1..=EVENTS).filter(|n| is_settled(*n)).collect();
            let subscription =
                "insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ($1, 'code', '3:3:', 0, $2)";
            let query = sqlx::query(subscription).bind(format!("h{id}")).bind(EVENTS);
            query.execute(database.pool()).await.expect("a subscription");
            let sql = match record {
                Record::All => {
                    "insert into deliveries (subscription, seq, state, attempts) select $1, n, 'delivered', 1 from unnest($2) n"
                }
                Record::Failures => {
                    "update subscriptions set done = (select range_agg(int8range(n, n + 1)) from unnest($2) n) where id = $1"
                }
            };
            sqlx::query(sql).bind(id).bind(&settled).execute(database.pool()).await.expect("it is settled");
            let recorder = Recorder::new();
            building = building.configured_handler(&format!("h{id}"), recorder.handler(), move |config| {
                quick_handler(config);
                config.record = record;
            });
            let owed: Vec<i64> = (1..=EVENTS).filter(|n| !is_settled(*n)).collect();
            all.push((recorder, owed));
        }
        let relay = building.start().expect("the relay starts");
        for (recorder, owed) in &all {
            recorder.wait_for(owed.len()).await;
        }
        relay.stop().await.expect("the relay stops");
        for ((recorder, owed), last) in all.iter().zip(LAST_SETTLED) {
            let mut numbers = recorder.numbers();
            numbers.sort_unstable();
            assert_eq!(numbers, *owed, "{record:?}, {last}");
        }
    }
}
