//! Rows and numbers belong together: what would part an event from its numbers is refused, or noticed and repaired.

use std::time::Duration;

use outboxd::config::HandlerConfig;
use outboxd::domain::OnDeadLetter;
use outboxd::{Reason, RelayBuilder, Verdict};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};

use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, number, quick_handler, relay};

fn row(n: i64, key: &str) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": n }))
}

async fn record(database: &TestDatabase, numbers: impl IntoIterator<Item = i64>) {
    for n in numbers {
        database.insert_event(row(n, &n.to_string())).await;
    }
}

fn with(database: &TestDatabase, recorder: &Recorder) -> RelayBuilder {
    relay(database).configured_handler("one", recorder.handler(), quick_handler)
}

/// What arrived; every event has a key of its own here.
fn sorted(recorder: &Recorder) -> Vec<i64> {
    let mut numbers = recorder.numbers();
    numbers.sort_unstable();
    numbers
}

/// The error that a statement meets, with its hint.
async fn refusal(database: &TestDatabase, sql: &str) -> String {
    let mut connection = database.connect().await;
    let error = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect_err(sql);
    connection.close().await.ok();
    let error = error.as_database_error().expect("the server refuses it");
    let hint = error.downcast_ref::<sqlx::postgres::PgDatabaseError>().hint().unwrap_or_default();
    format!("{} {hint}", error.message())
}

async fn outboxd(database: &TestDatabase, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let all = [arguments, &["--json", "--database-url", database.url()]].concat();
    let finished = Binary::with_config("").run(&all).await;
    (finished.code, serde_json::from_str(&finished.stdout).unwrap_or_default(), finished.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_cannot_be_truncated_and_the_hint_names_what_a_test_does_instead() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::new();
    let running = with(&database, &recorder).start().expect("the relay starts");
    record(&database, 1..=3).await;
    recorder.wait_for(3).await;
    for statement in [
        "truncate outbox.events",
        "truncate outbox.events restart identity",
        "truncate outbox.events cascade",
        "truncate outbox.deliveries, outbox.events restart identity cascade",
    ] {
        let said = refusal(&database, statement).await;
        assert!(said.contains("cannot be truncated") && said.contains("outbox.truncate_log()"), "{said}");
    }
    assert_eq!(database.count("events").await, 3);

    database.execute("select outbox.truncate_log()").await;
    assert_eq!(database.count("events").await, 0);
    record(&database, 4..=6).await;
    recorder.wait_for(6).await;
    assert_eq!(sorted(&recorder), [1, 2, 3, 4, 5, 6]);
    running.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn tx_seq_and_id_of_an_event_never_change_and_nothing_else_is_guarded() {
    let database = TestDatabase::create().await;
    record(&database, 1..=2).await;
    for change in ["tx = '3'", "seq = default", "id = gen_random_uuid()", "type = 'a', tx = tx"] {
        let said = refusal(&database, &format!("update outbox.events set {change}")).await;
        assert!(said.contains("never change"), "{change}: {said}");
    }
    database.execute("update events set payload = '{}', occurred_at = now()").await;
    database.execute("select set_config('outboxd.changes_log', 'on', true); update events set id = gen_random_uuid()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_id_that_is_not_the_writers_is_refused_as_soon_as_a_relay_has_run() {
    let database = TestDatabase::create().await;
    let inserts = [
        "insert into outbox.events (tx, type, payload) values ('3', 'a', '{\"n\": 9}')",
        "insert into outbox.events (tx, seq, type, payload) overriding system value values ('3', 9000, 'a', '{\"n\": 9}')",
        "begin; insert into outbox.events (type, payload) values ('a', '{\"n\": 9}');
         create temporary table kept as select tx, type, payload from outbox.events; commit;
         insert into outbox.events (tx, type, payload) select * from kept",
    ];
    // A restore of the data alone.
    database.execute(inserts[0]).await;
    let recorder = Recorder::new();
    let running = with(&database, &recorder).start().expect("the relay starts");
    recorder.wait_for(1).await;
    for insert in inserts {
        let said = refusal(&database, insert).await;
        assert!(said.contains("transaction id of its own") && said.contains("Leave tx and seq out"), "{said}");
    }
    running.stop().await.expect("the relay stops");
}

/// 1 is retried for ever (or dead), 2 waits behind it, 3 is of another key.
async fn key_behind_the_first(on_dead_letter: Option<OnDeadLetter>) -> (TestDatabase, Recorder, outboxd::EmbeddedRelay) {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(move |notification, _| match (number(notification), on_dead_letter) {
        (1, None) => Verdict::retry(Reason::Failed, "later"),
        (1, Some(_)) => Verdict::permanent(Reason::Refused, "never"),
        _ => Verdict::delivered(),
    });
    let configure = move |config: &mut HandlerConfig| {
        quick_handler(config);
        config.retry.max_attempts = 10_000;
        config.on_dead_letter = on_dead_letter.unwrap_or(config.on_dead_letter);
    };
    let running = relay(&database).configured_handler("one", recorder.handler(), configure).start().expect("the relay starts");
    database.insert_events([row(1, "a"), row(2, "a"), row(3, "b")]).await;
    eventually("the second waits", || async { (database.count("deliveries where state = 'waiting'").await == 1).then_some(()) })
        .await;
    (database, recorder, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_event_was_owed_ends_visibly_and_its_key_goes_on_however_the_event_went() {
    let by_hand = "delete from events where payload ->> 'n' = '1'";
    let silently = "alter table events disable trigger all; delete from events where payload ->> 'n' = '1'; alter table events enable trigger all";
    for (dead, delete) in [(None, by_hand), (None, silently), (Some(OnDeadLetter::HoldKey), by_hand)] {
        let (database, recorder, running) = key_behind_the_first(dead).await;
        database.execute(delete).await;
        recorder.wait_for(2).await;
        assert_eq!(recorder.numbers(), [3, 2], "{dead:?} {delete}");
        let ended = "deliveries where state = 'discarded' and reason = 'event_gone'";
        eventually("it has ended", || async { (database.count(ended).await == 1).then_some(()) }).await;
        if delete == silently {
            assert_eq!(database.count("audit where action = 'end_orphans' and affected = 1").await, 1);
        }
        running.stop().await.expect("the relay stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_delivery_whose_event_is_gone_does_not_hold_its_key() {
    let (database, recorder, running) = key_behind_the_first(None).await;
    database.insert_event(row(4, "a")).await;
    eventually("both wait", || async { (database.count("deliveries where state = 'waiting'").await == 2).then_some(()) }).await;
    database
        .execute(
            "alter table events disable trigger all; delete from events where payload ->> 'n' in ('1', '2');
             alter table events enable trigger all",
        )
        .await;
    recorder.wait_for(2).await;
    assert_eq!(recorder.numbers(), [3, 4]);
    running.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_given_out_again_are_refused_at_the_start_and_every_event_arrives_after_a_rebase() {
    let restarts = [
        "alter table events disable trigger all; truncate events restart identity; alter table events enable trigger all",
        "delete from events; select setval('events_seq_seq', 1, false)",
        "delete from events; alter sequence events_seq_seq restart",
    ];
    for restart in restarts {
        let database = TestDatabase::create().await;
        let recorder = Recorder::new();
        let running = with(&database, &recorder).start().expect("the relay starts");
        record(&database, 1..=10).await;
        recorder.wait_for(10).await;
        eventually("the position has passed them", || async {
            (database.count("subscriptions where high_seq >= 10").await == 1).then_some(())
        })
        .await;
        running.stop().await.expect("the relay stops");
        database.execute(restart).await;
        record(&database, 11..=15).await;

        let refusing = with(&database, &recorder).start().expect("the relay starts");
        eventually("the relay refuses", || async { (!refusing.is_running()).then_some(()) }).await;
        let said = refusing.stop().await.expect_err("numbers run backwards").to_string();
        assert!(said.contains("stands at 5") && said.contains("outboxd rebase"), "{said}");
        let (code, verified, _) = outboxd(&database, &["verify"]).await;
        assert_eq!((code, &verified["is_ours"]), (Some(2), &json!(false)), "{verified:#}");
        let (_, report, _) = outboxd(&database, &["doctor"]).await;
        let findings = report["findings"].as_array().expect("findings").iter();
        assert!(findings.clone().any(|finding| finding["check"] == "identity"), "{report:#}");
        assert!(!findings.clone().any(|finding| finding["check"] == "sequence"), "{report:#}");

        let (code, done, stderr) = outboxd(&database, &["rebase", "--yes"]).await;
        assert_eq!((code, &done["renumbered"]), (Some(0), &json!(5)), "{done:#} {stderr}");
        let running = with(&database, &recorder).start().expect("the relay starts");
        recorder.wait_for(15).await;
        record(&database, 16..=16).await;
        recorder.wait_for(16).await;
        assert_eq!(sorted(&recorder), (1..=16).collect::<Vec<_>>(), "{restart}");
        assert_eq!(recorder.calls().len(), 16);
        running.stop().await.expect("the relay stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_is_set_back_while_the_relay_runs_stops_it_until_it_is_raised_and_nothing_is_passed_over() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::new();
    let running = with(&database, &recorder).start().expect("the relay starts");
    record(&database, 1..=10).await;
    recorder.wait_for(10).await;
    eventually("the position has passed them", || async {
        (database.count("subscriptions where high_seq >= 10").await == 1).then_some(())
    })
    .await;
    database.execute("delete from deliveries; delete from events where seq <= 5; select setval('events_seq_seq', 2)").await;
    record(&database, 11..=12).await;
    eventually("the relay tells it", || async {
        running.health().reasons.iter().any(|reason| reason.contains("outboxd rebase")).then_some(())
    })
    .await;
    assert_eq!(recorder.numbers().len(), 10);
    running.stop().await.expect("the relay stops");
    let (code, done, stderr) = outboxd(&database, &["rebase", "--yes"]).await;
    assert_eq!((code, &done["renumbered"]), (Some(0), &json!(2)), "{done:#} {stderr}");
    let running = with(&database, &recorder).start().expect("the relay starts");
    recorder.wait_for(12).await;
    assert_eq!(sorted(&recorder), (1..=12).collect::<Vec<_>>());
    running.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_events_past_the_defences_and_leaves_nothing_behind() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::new();
    let configure = |config: &mut outboxd::config::Config| {
        config.outbox.retention = Duration::from_millis(1);
        config.outbox.retention_interval = Duration::from_millis(100);
    };
    let running = with(&database, &recorder).configure(configure).start().expect("the relay starts");
    record(&database, 1..=5).await;
    recorder.wait_for(5).await;
    eventually("all are removed", || async { (database.count("events").await == 0).then_some(()) }).await;
    assert_eq!(database.count("deliveries").await, 0);
    running.stop().await.expect("the relay stops");
}
