//! Rewinding and skipping: what is delivered again, in which order, and what is left out, exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outboxd::domain::Record;
use outboxd::{Reason, Verdict};
use sqlx::Executor;

use super::{insert, migrated, numbered, outboxd, outboxd_json};
use crate::support::{Recorder, TestDatabase, eventually, quick_handler, relay};

/// Waits until every subscription is behind every event.
async fn wait_until_stored(database: &TestDatabase) {
    eventually("the stored position is behind every event", || async {
        (database.count("event_states where state = 'pending'").await == 0).then_some(())
    })
    .await;
}

/// Registers `billing` with nothing in the log, so that it begins there, and stops again.
async fn register(database: &TestDatabase) {
    let relay = relay(database).handler("billing", &[], Recorder::new().handler()).start().expect("the relay starts");
    eventually("billing is registered", || async { (database.count("subscriptions where epoch > 1").await == 1).then_some(()) })
        .await;
    relay.stop().await.expect("the relay stops");
}

fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_relay_follows_a_rewind_and_delivers_everything_again_in_order_with_the_same_ids() {
    for (record, partitions) in [(Record::All, 1), (Record::Failures, 1), (Record::All, 3)] {
        let (database, recorder) = (migrated().await, Recorder::new());
        let relay = relay(&database)
            .configured_handler("billing", recorder.handler(), |config| (config.record, config.partitions) = (record, partitions))
            .start()
            .expect("the relay starts");
        let ids = insert(&database, 1, 200).await;
        recorder.wait_for(200).await;
        wait_until_stored(&database).await;

        let done = outboxd_json(&database, &["handlers", "rewind", "billing", "--to", "beginning", "--force", "--yes"]).await;
        assert_eq!((&done["again"], &done["skipped"], &done["changed"]), (&200.into(), &0.into(), &true.into()));
        recorder.wait_for(400).await;
        insert(&database, 201, 205).await;
        recorder.wait_for(405).await;
        wait_until_stored(&database).await;
        relay.stop().await.expect("the relay stops");

        for key in 0..5 {
            let once: Vec<i64> = (1..=200).filter(|number| number % 5 == key).collect();
            let last = if key == 0 { 205 } else { 200 + key };
            assert_eq!(recorder.numbers_of(&key.to_string()), [once.clone(), once, vec![last]].concat());
        }
        let mut again: Vec<_> = recorder.delivered()[200..400].iter().map(|notification| notification.id).collect();
        again.sort_unstable();
        let mut first = ids.clone();
        first.sort_unstable();
        assert_eq!(again, first, "the same events");
        let remembered = if record == Record::All { 200 } else { 0 };
        assert_eq!(database.count("attempts where outcome = 'delivered'").await, remembered, "the history stays");
        assert_eq!(database.count("audit where action = 'rewind' and actor = 'ada' and affected = 200").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_to_an_event_begins_with_it_and_leaves_what_lies_before() {
    let (database, recorder) = (migrated().await, Recorder::new());
    let relay = relay(&database).handler("billing", &[], recorder.handler()).start().expect("the relay starts");
    let ids = insert(&database, 1, 50).await;
    recorder.wait_for(50).await;
    wait_until_stored(&database).await;

    outboxd_json(&database, &["handlers", "rewind", "billing", "--to", &ids[30].to_string(), "--force", "--yes"]).await;
    recorder.wait_for(70).await;
    insert(&database, 51, 51).await;
    recorder.wait_for(71).await;
    wait_until_stored(&database).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(sorted(recorder.numbers()), sorted((1..=50).chain(31..=51).collect()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_begins_afresh_with_what_fails_and_keeps_what_was_discarded() {
    let database = migrated().await;
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    // Of each key the second event: one dies, one goes on failing with others behind it, one dies and is discarded.
    let recorder = Recorder::answering(move |notification, _| {
        let number = crate::support::number(notification);
        match number {
            6 | 7 if broken.load(Ordering::SeqCst) => Verdict::permanent(Reason::ClientError, "no"),
            8 if broken.load(Ordering::SeqCst) => Verdict::retry(Reason::ServerError, "later"),
            _ => Verdict::delivered(),
        }
    });
    let start =
        || relay(&database).configured_handler("billing", recorder.handler(), quick_handler).start().expect("the relay starts");
    let first = start();
    insert(&database, 1, 20).await;
    eventually("all of it has an outcome", || async {
        let open = database.count("deliveries where state in ('retrying', 'waiting')").await;
        let dead = database.count("deliveries where state = 'dead'").await;
        (dead == 2 && open == 3 && database.count("deliveries where state = 'delivered'").await == 15).then_some(())
    })
    .await;
    wait_until_stored(&database).await;
    first.stop().await.expect("the relay stops");
    let discarded =
        "update deliveries set state = 'discarded' where seq = (select seq from events where payload::jsonb ->> 'n' = '7')";
    database.execute(discarded).await;
    let before = recorder.delivered().len();
    is_broken.store(false, Ordering::SeqCst);

    let done = outboxd_json(&database, &["handlers", "rewind", "billing", "--to", "beginning", "--force", "--yes"]).await;
    assert_eq!((&done["again"], &done["dead"]), (&19.into(), &1.into()), "all but the discarded one");
    let second = start();
    eventually("all others are delivered", || async {
        (database.count("deliveries where state = 'delivered'").await == 19).then_some(())
    })
    .await;
    second.stop().await.expect("the relay stops");

    let after = recorder.delivered().split_off(before);
    for key in ["0", "1", "2", "3", "4"] {
        let numbers: Vec<i64> = after
            .iter()
            .filter(|notification| notification.aggregate_id.as_deref() == Some(key))
            .map(crate::support::number)
            .collect();
        assert_eq!(numbers, sorted(numbers.clone()), "key {key}");
    }
    assert_eq!(database.count("deliveries where state = 'discarded'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_skips_no_straggler_below_it() {
    let (database, recorder) = (migrated().await, Recorder::new());
    let start = || relay(&database).handler("billing", &[], recorder.handler()).start().expect("the relay starts");
    let first = start();
    let mut straggler = database.connect().await;
    straggler
        .execute("begin; insert into outbox.events (type, aggregate_id, payload) values ('late', 'x', '{\"n\": 0}')")
        .await
        .expect("inserted");
    let ids = insert(&database, 1, 10).await;
    recorder.wait_for(10).await;
    wait_until_stored(&database).await;
    first.stop().await.expect("the relay stops");
    // It commits between the last read and the rewind: only the position knows that it is still owed.
    straggler.execute("commit").await.expect("committed");

    outboxd_json(&database, &["handlers", "rewind", "billing", "--to", &ids[5].to_string(), "--force", "--yes"]).await;
    let second = start();
    recorder.wait_for(16).await;
    wait_until_stored(&database).await;
    second.stop().await.expect("the relay stops");

    assert_eq!(sorted(recorder.numbers()), sorted((0..=10).chain(6..=10).collect()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_in_the_middle_of_a_window_leaves_out_what_was_done_before_it() {
    for record in [Record::All, Record::Failures] {
        let (database, recorder) = (migrated().await, Recorder::new());
        let start = |recorder: &Recorder| {
            relay(&database)
                .configured_handler("billing", recorder.handler(), |config| config.record = record)
                .start()
                .expect("the relay starts")
        };
        database
            .execute(
                "insert into events (type, aggregate_type, aggregate_id, payload)
                 select 'order.placed', 'order', (n % 50)::text, json_build_object('n', n) from generate_series(1, 20000) n",
            )
            .await;
        let first = start(&recorder);
        recorder.wait_for(5_000).await;
        first.stop().await.expect("the relay stops");
        let reached = recorder.numbers().len() as i64;
        assert_eq!(database.count("subscriptions where window_snapshot is not null").await, 1, "in the middle of a window");

        let id: uuid::Uuid = sqlx::query_scalar("select id from outbox.events where (payload ->> 'n')::bigint = 1001")
            .fetch_one(database.pool())
            .await
            .expect("it is there");
        outboxd_json(&database, &["handlers", "rewind", "billing", "--to", &id.to_string(), "--force", "--yes"]).await;
        let again = Recorder::new();
        let second = start(&again);
        again.wait_for(19_000).await;
        wait_until_stored(&database).await;
        second.stop().await.expect("the relay stops");

        assert!(reached < 20_000, "the first relay was too fast to be stopped in the middle");
        assert_eq!(sorted(again.numbers()), (1_001..=20_000).collect::<Vec<_>>(), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn start_from_now_skips_exactly_what_is_committed_and_not_handled() {
    let (database, recorder) = (migrated().await, Recorder::new());
    register(&database).await;
    insert(&database, 1, 30).await;
    let mut straggler = database.connect().await;
    straggler.execute("begin; insert into outbox.events (type, payload) values ('late', '{\"n\": 31}')").await.expect("inserted");

    let told = outboxd_json(&database, &["handlers", "start-from", "billing", "now", "--dry-run"]).await;
    assert_eq!((&told["skipped"], &told["changed"]), (&30.into(), &false.into()));
    let refused = outboxd(&database, &["handlers", "start-from", "billing", "now"]).await;
    assert_eq!(refused.code, Some(64), "it asks: {refused:?}");
    assert!(refused.stderr.contains("30 events would be skipped"), "{}", refused.stderr);
    let done = outboxd_json(&database, &["handlers", "start-from", "billing", "now", "--yes", "--because", "worthless"]).await;
    assert_eq!((&done["skipped"], &done["again"]), (&30.into(), &0.into()));
    straggler.execute("commit").await.expect("committed");
    insert(&database, 32, 33).await;

    let relay = relay(&database).handler("billing", &[], recorder.handler()).start().expect("the relay starts");
    recorder.wait_for(3).await;
    wait_until_stored(&database).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(sorted(recorder.numbers()), [31, 32, 33]);
    assert_eq!(database.count("audit where action = 'start from' and affected = 30 and reason = 'worthless'").await, 1);
    let nothing = outboxd_json(&database, &["handlers", "start-from", "billing", "now", "--yes"]).await;
    assert_eq!(nothing["changed"], false, "there is nothing to skip any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn start_from_an_event_or_a_time_skips_what_lies_before() {
    let (database, recorder) = (migrated().await, Recorder::new());
    register(&database).await;
    let ids = insert(&database, 1, 30).await;
    database.execute("update events set occurred_at = occurred_at - interval '1 day' where (payload ->> 'n')::int <= 20").await;

    let done = outboxd_json(&database, &["handlers", "start-from", "billing", &ids[10].to_string(), "--yes"]).await;
    assert_eq!(done["skipped"], 10);
    let told = outboxd_json(&database, &["handlers", "start-from", "billing", "6h", "--dry-run"]).await;
    assert_eq!(told["skipped"], 10, "those of yesterday that are left");
    let relay = relay(&database).handler("billing", &[], recorder.handler()).start().expect("the relay starts");
    recorder.wait_for(20).await;
    wait_until_stored(&database).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(sorted(recorder.numbers()), (11..=30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_is_delivered_again_only_by_force() {
    let (database, recorder) = (migrated().await, Recorder::new());
    let relay = relay(&database).handler("billing", &[], recorder.handler()).start().expect("the relay starts");
    insert(&database, 1, 10).await;
    recorder.wait_for(10).await;
    wait_until_stored(&database).await;

    for arguments in [["rewind", "billing", "--to", "beginning"].as_slice(), &["start-from", "billing", "beginning"]] {
        let refused = outboxd(&database, &[&["handlers"], arguments, &["--yes"]].concat()).await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        assert!(refused.stderr.contains("10 events from there on were handled already; --force"), "{}", refused.stderr);
    }
    let unknown = uuid::Uuid::nil().to_string();
    let refused = outboxd(&database, &["handlers", "rewind", "billing", "--to", &unknown, "--force", "--yes"]).await;
    assert_eq!((refused.code, refused.stderr.contains("there is no event")), (Some(64), true), "{refused:?}");
    assert_eq!(database.count("subscriptions where moves > 0").await, 0);
    outboxd_json(&database, &["handlers", "start-from", "billing", "beginning", "--force", "--yes"]).await;
    recorder.wait_for(20).await;
    relay.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_under_load_loses_nothing() {
    let (database, recorder) = (migrated().await, Recorder::new());
    let relay = relay(&database).handler("billing", &[], recorder.handler()).start().expect("the relay starts");
    let url = database.url().to_owned();
    let writer = tokio::spawn(async move {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.expect("the server takes connections");
        for number in 1..=400_i64 {
            sqlx::query("insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('t', 'order', $1, json_build_object('n', $2::bigint))")
                .bind((number % 5).to_string())
                .bind(number)
                .execute(&mut connection)
                .await
                .expect("inserted");
        }
    });
    for place in [50, 150, 250] {
        recorder.wait_for(place).await;
        outboxd_json(&database, &["handlers", "rewind", "billing", "--to", "beginning", "--force", "--yes"]).await;
    }
    writer.await.expect("the writer works");
    recorder.wait_for_ids(400).await;
    wait_until_stored(&database).await;
    // What a long queue of its key has parked is behind the position, too.
    eventually("nothing waits", || async { (database.count("deliveries where state = 'waiting'").await == 0).then_some(()) }).await;
    relay.stop().await.expect("the relay stops");

    for key in 0..5 {
        let want: Vec<i64> = (1..=400).filter(|number| number % 5 == key).collect();
        let numbers = recorder.numbers_of(&key.to_string());
        // After the last time that it began anew, the whole key came once and in order.
        let last = numbers.iter().rposition(|number| *number == want[0]).expect("its first event came");
        let mut round = numbers[last..].to_vec();
        round.dedup();
        assert_eq!(round, want, "key {key}");
    }
    assert_eq!(database.count("deliveries where state = 'delivered'").await, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_key_comes_before_its_new_events() {
    let (database, recorder) = (migrated().await, Recorder::new());
    let start = || relay(&database).handler("billing", &[], recorder.handler()).start().expect("the relay starts");
    let first = start();
    insert(&database, 1, 25).await;
    recorder.wait_for(25).await;
    wait_until_stored(&database).await;
    first.stop().await.expect("the relay stops");
    outboxd_json(&database, &["handlers", "rewind", "billing", "--to", "beginning", "--force", "--yes"]).await;
    database.insert_event(numbered(1, 26)).await;

    let second = start();
    recorder.wait_for(51).await;
    second.stop().await.expect("the relay stops");

    assert_eq!(recorder.numbers_of("1"), [1, 6, 11, 16, 21, 1, 6, 11, 16, 21, 26]);
}
