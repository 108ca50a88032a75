//! What an operator meets on a bad day: the wrong server, the wrong schema, the wrong password, no server at all; and retention.

use std::time::Duration;

use outboxd::config::HandlerConfig;
use outboxd::{Reason, Verdict};
use serde_json::json;
use sqlx::Executor;

use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, number, own_server, quick_handler, relay};

const DISCARD: &str = "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n";

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

/// A database that a relay has been running on.
async fn used_database(binary: impl Fn(&TestDatabase) -> Binary) -> (TestDatabase, Binary) {
    let database = TestDatabase::create().await;
    let binary = binary(&database);
    let running = binary.spawn(&["run"]);
    database.insert_event(numbered("a", 1)).await;
    wait_for_rows(&database, "deliveries", 1).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
    (database, binary)
}

fn discarding(database: &TestDatabase) -> Binary {
    Binary::relay(database.url(), DISCARD)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_in_another_cluster_is_refused() {
    let (database, binary) = used_database(discarding).await;
    database.execute("update incarnation set system_identifier = 42").await;
    database.insert_event(numbered("a", 2)).await;

    let finished = binary.run(&["run"]).await;

    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("belong to cluster 42"), "{}", finished.stderr);
    assert_eq!(database.count("deliveries").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_timeline_is_refused_until_a_person_says_to_follow_it() {
    let (database, binary) = used_database(discarding).await;
    database.execute("update incarnation set timeline = '0000AAAA', tx = pg_current_xact_id()").await;
    database.insert_event(numbered("a", 2)).await;

    let refused = binary.run(&["run"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("--follow-new-timeline"), "{}", refused.stderr);
    assert_eq!(database.count("deliveries").await, 1);

    let following = binary.spawn(&["run", "--follow-new-timeline"]);
    wait_for_rows(&database, "deliveries", 2).await;
    following.terminate();
    assert_eq!(following.finish().await.code, Some(0));
    // It is remembered: the next run needs no word.
    let next = binary.spawn(&["run"]);
    database.insert_event(numbered("a", 3)).await;
    wait_for_rows(&database, "deliveries", 3).await;
    next.terminate();
    assert_eq!(next.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_newer_than_the_program_is_refused() {
    let (database, binary) = used_database(discarding).await;
    database.execute("insert into migrations (version, name, checksum) values (99, '0099_future', '')").await;

    for arguments in [&["run"][..], &["run", "--no-migrate"]] {
        let finished = binary.run(arguments).await;
        assert_eq!(finished.code, Some(75), "{}", finished.stderr);
        assert!(finished.stderr.contains("version 99"), "{}", finished.stderr);
        assert!(finished.stderr.contains("upgrade outboxd"), "{}", finished.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_refused_with_the_way_out() {
    let (database, _) = used_database(discarding).await;

    let finished = Binary::relay(database.url(), &format!("{DISCARD}partitions = 4")).run(&["run"]).await;

    assert_eq!(finished.code, Some(64), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("set partitions = 1,") && finished.stderr.contains("outboxd handlers repartition one 4"),
        "{}",
        finished.stderr
    );
    assert_eq!(database.count("subscriptions").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_starts_before_its_database_waits_for_it() {
    let mut server = tokio::task::spawn_blocking(|| ()).await.map(|()| own_server(&[])).expect("no panic").await;
    let url = server.url("postgres");
    server = tokio::task::spawn_blocking(move || {
        server.stop_fast();
        server
    })
    .await
    .expect("stopping does not panic");
    let running = Binary::relay(&url, DISCARD).spawn(&["run"]);
    running.wait_for_output("waiting for it").await;

    let server = tokio::task::spawn_blocking(move || {
        server.start_again().expect("the server starts again");
        server
    })
    .await
    .expect("starting does not panic");
    running.wait_for_output("relay started").await;

    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_waits_for_its_database_can_be_stopped() {
    let running = Binary::relay("postgres://nobody@127.0.0.1:1/nothing", DISCARD).spawn(&["run"]);
    running.wait_for_output("waiting for it").await;

    running.terminate();

    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_ends_the_relay_with_a_word_about_it() {
    let database = TestDatabase::create().await;
    let mut url: url::Url = database.url().parse().expect("an address");
    url.set_password(Some("wrong")).expect("the address has a host");

    let finished = Binary::relay(url.as_str(), DISCARD).run(&["run"]).await;

    assert_eq!(finished.code, Some(75), "{}", finished.stderr);
    assert!(finished.stderr.contains("the password is wrong"), "{}", finished.stderr);
    assert!(!finished.stderr.contains(":wrong@"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_what_is_finished_and_never_what_a_handler_still_owes() {
    let database = TestDatabase::create().await;
    // 1 is refused for ever, 2 fails for now, 3 waits behind it; the rest goes through.
    let picky = Recorder::answering(|notification, _| match number(notification) {
        1 => Verdict::permanent(Reason::ClientError, "never"),
        2 => Verdict::retry(Reason::ServerError, "not now"),
        _ => Verdict::delivered(),
    });
    let (easy, held) = (Recorder::new(), Recorder::new());
    let relay = relay(&database)
        .configure(|config| {
            config.outbox.retention = Duration::from_millis(1);
            config.outbox.retention_interval = Duration::from_millis(200);
            config.outbox.retention_chunk = 7;
        })
        .configured_handler("easy", easy.handler(), quick_handler)
        .configured_handler("picky", picky.handler(), |config: &mut HandlerConfig| {
            quick_handler(config);
            config.retry.max_attempts = 10_000;
            config.circuit.minimum = 1_000;
        })
        .configured_handler("held", held.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    wait_for_rows(&database, "subscriptions where owner is not null", 3).await;
    let rows =
        (1..=100).map(|number| numbered(if number == 2 || number == 3 { "stuck".to_owned() } else { number.to_string() }, number));
    database.insert_events(rows).await;

    wait_for_rows(&database, "events", 3).await;
    let mut left: Vec<String> =
        sqlx::query_scalar("select payload ->> 'n' from events").fetch_all(database.pool()).await.expect("the events can be read");
    left.sort();
    assert_eq!(left, ["1", "2", "3"]);
    // What is gone took its markers along, and what stays kept those of the others.
    assert_eq!(database.count("deliveries d where not exists (select 1 from events e where e.seq = d.seq)").await, 0);
    assert_eq!(database.count("deliveries").await, 9);

    // A handler that does not read keeps everything that it has not read.
    let ring = "select pg_notify('outboxd_outbox', 'control')";
    database.execute(&format!("update subscriptions set paused_at = now() where handler = 'held'; {ring}")).await;
    let began: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(database.pool()).await.expect("a time");
    wait_for_rows(&database, &format!("subscriptions where lease_until > '{began}'::timestamptz + interval '4 s'"), 3).await;
    database.insert_events((101..=150).map(|number| numbered(number, number))).await;
    easy.wait_for(150).await;
    picky.wait_for(147).await;
    wait_for_rows(&database, "deliveries d join events e using (seq) where (e.payload ->> 'n')::int > 100", 100).await;
    // Another round of retention has certainly passed once something finished later is gone: nothing is, so rounds are counted.
    let mut lock = database.connect().await;
    for _ in 0..3 {
        let sql = "select pg_advisory_xact_lock(hashtextextended('outboxd retention outbox', 0))";
        lock.execute(sql).await.expect("the retention lets others in");
    }
    assert_eq!(database.count("events").await, 53);
    database.execute(&format!("update subscriptions set paused_at = null where handler = 'held'; {ring}")).await;
    wait_for_rows(&database, "events", 3).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(held.numbers().len(), 150);
}
