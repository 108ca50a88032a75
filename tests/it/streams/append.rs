//! `outbox.append`, for every language: expected versions, repeats, conflicts, bad input, rights.

use serde_json::{Value, json};
use sqlx::{Acquire, Connection, Executor};

use super::{append, appended, earned, number, points, stream};
use crate::support::{Recorder, TestDatabase, quick_handler, relay};

#[tokio::test]
async fn an_append_gives_versions_and_an_ordinary_event() {
    let database = TestDatabase::create().await;
    assert_eq!(appended(&database, "ann", "none", earned([1, 2])).await, Ok(2));
    let with_all = json!([{ "type": "points.earned", "payload": { "points": 3 }, "id": "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f",
                            "headers": { "tenant": "acme" }, "occurred_at": "2026-01-31T08:00:00.000001Z" }]);
    assert_eq!(appended(&database, "ann", "2", with_all).await, Ok(3));

    assert_eq!(stream(database.pool(), "ann").await, [1, 2, 3].map(|n| (n, json!({ "points": n }))));
    let ordinary =
        "events where id = '018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f' and type = 'points.earned' and headers = '{\"tenant\": \"acme\"}'
                    and aggregate_type = 'account' and aggregate_id = 'ann' and aggregate_version = 3
                    and occurred_at = '2026-01-31 08:00:00.000001Z'";
    assert_eq!(database.count(ordinary).await, 1);
}

#[tokio::test]
async fn the_expected_version_decides() {
    let database = TestDatabase::create().await;
    let at = async |key: &str, expected: &str| match appended(&database, key, expected, earned([0])).await {
        Ok(version) => version.to_string(),
        Err(refusal) => refusal.code,
    };
    for (key, expected, answer) in [
        ("ann", "exists", "OB001"),
        ("ann", "1", "OB001"),
        ("ann", "none", "1"),
        ("ann", "none", "OB001"),
        ("ann", "0", "OB001"),
        ("ann", "1", "2"),
        ("ann", "1", "OB001"),
        ("ann", "3", "OB001"),
        ("ann", "exists", "3"),
        ("ann", "any", "4"),
        ("bob", "any", "1"),
        ("bob", "01", "2"),
        ("zoe", "0", "1"),
        ("zoe", "", "22023"),
        ("zoe", "-1", "22023"),
        ("zoe", "1.5", "22023"),
        ("zoe", "99999999999999999999", "22023"),
        ("zoe", "NONE", "22023"),
    ] {
        assert_eq!(at(key, expected).await, answer, "{key} at {expected}");
    }
    let by_number: i64 = sqlx::query_scalar("select outbox.append('account', 'zoe', 1, '[{\"type\": \"x\", \"payload\": {}}]')")
        .fetch_one(database.pool())
        .await
        .expect("a number needs no quotes");
    assert_eq!(by_number, 2);
}

#[tokio::test]
async fn a_conflict_tells_the_actual_version() {
    let database = TestDatabase::create().await;
    appended(&database, "ann", "any", earned([1, 2, 3])).await.expect("it is appended");
    let refusal = appended(&database, "ann", "1", earned([4])).await.expect_err("it is a conflict");
    assert_eq!(refusal.message, "outbox: stream account/ann is at version 3, expected was 1");
    let detail: Value = serde_json::from_str(&refusal.detail).expect("the detail is JSON");
    assert_eq!(detail, json!({ "type": "account", "key": "ann", "expected": "1", "actual": 3 }));
    assert_eq!(points(database.pool(), "ann").await, [1, 2, 3]);
}

/// A program that had no answer to its commit appends the same once more.
#[tokio::test]
async fn the_same_events_again_are_answered_as_the_first_time() {
    let database = TestDatabase::create().await;
    let event = |n: u32, points: i64| json!({ "id": format!("00000000-0000-4000-8000-{n:012}"), "type": "points.earned", "payload": { "points": points } });
    let both = json!([event(1, 10), event(2, 20)]);
    for expected in ["none", "none", "0", "any", "exists"] {
        assert_eq!(appended(&database, "ann", expected, both.clone()).await, Ok(2), "{expected}");
    }
    appended(&database, "ann", "2", earned([30])).await.expect("it is appended");
    assert_eq!(appended(&database, "ann", "none", both.clone()).await, Ok(2), "what came later changes no answer");

    for (key, events, why) in [
        ("ann", json!([event(1, 10), event(3, 30)]), "a part of them, and another"),
        ("ann", json!([event(2, 20), event(1, 10)]), "in another order"),
        ("ann", json!([event(1, 10), event(2, 21)]), "with other content"),
        ("bob", both.clone(), "in another stream"),
    ] {
        for expected in ["none", "any", "3"] {
            let refusal = appended(&database, key, expected, events.clone()).await.expect_err(why);
            assert!(["OB001", "OB002"].contains(&refusal.code.as_str()), "{why}: {refusal:?}");
            assert!(refusal.code == "OB002" || key == "bob", "{why}, expected {expected}: {refusal:?}");
        }
    }
    assert_eq!(points(database.pool(), "ann").await, [10, 20, 30]);
    assert_eq!(database.count("streams where key = 'bob'").await, 0);
    assert_eq!(number(database.pool(), "select version from outbox.streams where key = 'ann'").await, 3);
}

#[tokio::test]
async fn a_transaction_goes_on_after_a_repeat_and_after_a_conflict_in_a_savepoint() {
    let database = TestDatabase::create().await;
    let repeated = json!([{ "id": "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f", "type": "points.earned", "payload": { "points": 1 } }]);
    appended(&database, "ann", "none", repeated.clone()).await.expect("it is appended");
    let mut connection = database.connect().await;
    let mut transaction = Connection::begin(&mut connection).await.expect("it begins");
    assert_eq!(append(&mut transaction, "ann", "any", repeated).await, Ok(1));
    let mut inner = Acquire::begin(&mut *transaction).await.expect("a savepoint");
    append(&mut inner, "ann", "7", earned([7])).await.expect_err("it is a conflict");
    inner.rollback().await.expect("back to the savepoint");
    assert_eq!(append(&mut transaction, "ann", "1", earned([2])).await, Ok(2));
    transaction.commit().await.expect("it commits");
    assert_eq!(points(database.pool(), "ann").await, [1, 2]);
}

#[tokio::test]
async fn bad_input_is_refused_with_words_that_help() {
    let database = TestDatabase::create().await;
    let long = "x".repeat(1001);
    for (key, events, code, words) in [
        ("ann", json!([]), "22023", "without events"),
        ("ann", json!({ "type": "x", "payload": {} }), "22023", "a JSON array of objects"),
        ("ann", json!([{ "type": "x", "payload": {} }, 3]), "22023", "a JSON array of objects"),
        ("ann", json!([{ "type": "x", "paylod": {} }]), "22023", "a field with an unknown name"),
        ("ann", json!([{ "type": "x" }]), "23502", "payload"),
        ("ann", json!([{ "payload": {} }]), "23502", "type"),
        ("ann", json!([{ "type": "x", "payload": 3 }]), "23514", "is a JSON number, not an object"),
        ("ann", json!([{ "type": "x", "payload": {}, "headers": 3 }]), "23514", "headers"),
        ("ann", json!([{ "type": "x", "payload": {}, "id": "x" }]), "22P02", "uuid"),
        ("ann", json!([{ "type": "x", "payload": {}, "occurred_at": "never" }]), "22007", "timestamp"),
        ("", json!([{ "type": "x", "payload": {} }]), "23514", "streams"),
        (&long, json!([{ "type": "x", "payload": {} }]), "23514", "streams"),
    ] {
        let refusal = appended(&database, key, "any", events.clone()).await.expect_err(words);
        assert_eq!(refusal.code, code, "{events}: {refusal:?}");
        assert!(refusal.message.contains(words), "{events}: {refusal:?}");
    }
    for nothing in
        ["null, 'ann', 'any'", "'account', null, 'any'", "'account', 'ann', null::text", "'account', 'ann', null::bigint"]
    {
        let sql = format!("select outbox.append({nothing}, '[{{\"type\": \"x\", \"payload\": {{}}}}]')");
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.expect_err(nothing);
        assert_eq!(super::Refusal::of(refused).code, "22023", "{nothing}");
    }
    assert_eq!((database.count("streams").await, database.count("events").await), (0, 0));
    let twice = json!([{ "id": "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f", "type": "x", "payload": {} }, { "id": "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f", "type": "x", "payload": {} }]);
    assert_eq!(appended(&database, "ann", "any", twice).await.expect_err("one id for two events").code, "23505");
}

#[tokio::test]
async fn an_archived_stream_takes_no_events_and_its_key_is_not_used_again() {
    let database = TestDatabase::create().await;
    appended(&database, "ann", "none", earned([1])).await.expect("it is appended");
    database.execute("update streams set archived_at = now()").await;
    for expected in ["none", "1", "exists", "any"] {
        assert_eq!(
            appended(&database, "ann", expected, earned([2])).await.expect_err("it is archived").code,
            "OB003",
            "{expected}"
        );
    }
}

/// Two programs that do not know of one another: the second waits for the first, and then learns what is true.
#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_stream_wait_for_one_another_and_numbers_follow_versions() {
    let database = TestDatabase::create().await;
    appended(&database, "ann", "none", earned([1])).await.expect("it is appended");
    let mut first = database.connect().await;
    first.execute("begin").await.expect("it begins");
    append(&mut first, "ann", "1", earned([2])).await.expect("it is appended");
    let second = tokio::spawn({
        let mut connection = database.connect().await;
        async move { append(&mut connection, "ann", "any", earned([3])).await }
    });
    crate::support::eventually("the second waits for the first", || async {
        let waiting = database.count("pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").await;
        (waiting == 1).then_some(())
    })
    .await;
    first.execute("commit").await.expect("it commits");
    assert_eq!(second.await.expect("no panic"), Ok(3));
    let disordered = "stream_events a join stream_events b on b.stream = a.stream and b.version > a.version and b.seq < a.seq";
    assert_eq!((database.count(disordered).await, points(database.pool(), "ann").await), (0, vec![1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_receive_what_is_appended_in_the_order_of_the_stream() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::new();
    let running = relay(&database).configured_handler("one", recorder.handler(), quick_handler).start().expect("the relay starts");
    for version in 0..5 {
        let event = json!([{ "type": "points.earned", "payload": { "n": version } }]);
        appended(&database, "ann", &version.to_string(), event).await.expect("it is appended");
    }
    recorder.wait_for(5).await;
    assert_eq!(recorder.numbers(), [0, 1, 2, 3, 4]);
    running.stop().await.expect("the relay stops");
}
