//! What the function cannot be given is a fault of the event, and told at once; what the function makes of it is its own affair.

use sqlx::AssertSqlSafe;

use super::{database, doing, effects, numbered, run, stop, texts, wait_for_rows};
use crate::support::TestDatabase;

/// Payloads that are JSON and cannot be `jsonb`, for one reason each.
fn not_jsonb() -> Vec<String> {
    let mut payloads: Vec<String> = [
        r#"{"note":"x\u0000"}"#,
        r#"{"a\u0000b":1}"#,
        r#"{"note":"\ud800"}"#,
        r#"{"note":"\udc00 alone"}"#,
        r#"{"note":"\ud800\ud800"}"#,
        r#"{"n":1e200000}"#,
        r#"{"n":[1,{"deep":-1e-200000}]}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    payloads.push(format!("{{\"n\":1{}}}", "0".repeat(140_000)));
    payloads
}

async fn insert(database: &TestDatabase, key: &str, payload: &str) {
    sqlx::query(
        "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', $1, $2::json)",
    )
    .bind(key)
    .bind(payload)
    .execute(database.pool())
    .await
    .expect("the table takes it");
}

/// Seen: an error of the conversion was taken for one of the function, and tried again for a day, while its key waited.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_not_jsonb_is_a_dead_letter_at_once_and_its_key_goes_on() {
    let database = database().await;
    let bad = not_jsonb();
    let convertible = "select count(*) from outbox.events where pg_input_is_valid(payload::text, 'jsonb')";
    for (n, payload) in bad.iter().enumerate() {
        database.insert_event(numbered(n, 10 + n as i64)).await;
        insert(&database, &n.to_string(), payload).await;
        database.insert_event(numbered(n, 20 + n as i64)).await;
    }
    let is_known = texts(&database, "select (to_regproc('pg_input_is_valid') is not null)::text").await;
    if is_known == ["true"] {
        assert_eq!(texts(&database, &format!("select ({convertible})::text")).await, [(2 * bad.len()).to_string()]);
    }
    let running = run(&database, "");

    wait_for_rows(&database, "deliveries where state = 'delivered'", 2 * bad.len() as i64).await;
    wait_for_rows(&database, "deliveries where state = 'dead'", bad.len() as i64).await;
    let log = stop(running).await;

    let dead = "deliveries where state = 'dead' and reason = 'unconvertible' and attempts = 1 and detail like 'the payload cannot be converted to jsonb: %'";
    assert_eq!(database.count(dead).await, bad.len() as i64, "{log}");
    let mut taken = effects(&database).await;
    taken.sort_unstable();
    let want: Vec<i64> = (10..).take(bad.len()).chain((20..).take(bad.len())).collect();
    assert_eq!(taken, want);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_same_class_that_the_function_raises_itself_is_tried_again() {
    let database = database().await;
    database
        .insert_events([
            doing("a", 1, "select 'x'::integer"),
            doing("b", 2, "select 1e300::float4"),
            doing("c", 3, "do $d$ begin raise exception 'mine' using errcode = '22P05'; end $d$"),
            doing("d", 4, "do $d$ begin raise exception 'mine' using errcode = '54000'; end $d$"),
            numbered("e", 5),
        ])
        .await;
    let running = run(&database, "retry.max_attempts = 3\n");

    wait_for_rows(&database, "deliveries where state = 'dead'", 4).await;
    stop(running).await;
    assert_eq!(database.count("deliveries where state = 'dead' and reason = 'exhausted' and attempts = 3").await, 4);
    assert_eq!(effects(&database).await, [5]);
}

/// A function that takes `json` gets what was recorded, byte for byte, and there is nothing that it cannot be given.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_takes_json_gets_the_payload_as_it_was_recorded() {
    let database = TestDatabase::create().await;
    let create = |payload: &str| {
        AssertSqlSafe(format!(
            "create function app.take(id uuid, type text, key text, payload {payload}, headers jsonb) returns void language sql as
             $$ insert into app.texts (t) values (payload::text) $$"
        ))
    };
    database.execute("create schema app; create table app.texts (t text, n bigint generated always as identity)").await;
    sqlx::raw_sql(create("json")).execute(database.pool()).await.expect("created");
    let payload = r#"{"b" : 1.00,  "a":"x\u0000"}"#;
    insert(&database, "a", payload).await;
    let running = run(&database, "circuit.first_probe = \"50ms\"\ncircuit.max_probe = \"50ms\"\n");

    wait_for_rows(&database, "deliveries where state = 'delivered'", 1).await;
    // Replaced while the relay runs: from then on it is called as it is.
    database.execute("drop function app.take").await;
    sqlx::raw_sql(create("jsonb")).execute(database.pool()).await.expect("created");
    for n in 0..3 {
        database.insert_event(numbered("a", n)).await;
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", 4).await;
    stop(running).await;
    assert_eq!(texts(&database, "select t from app.texts order by n").await[0], payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_does_not_exist_opens_the_circuit_and_nothing_is_called() {
    let database = database().await;
    database.insert_events((1..=3).map(|n| numbered(n, n))).await;
    let running = run(&database, "role = \"nobody_of_this_name\"\n");

    wait_for_rows(&database, "subscriptions where circuit = 'open' and circuit_reason = 'misconfigured'", 1).await;
    let log = stop(running).await;
    assert!(!log.contains("could not go on"), "seen: the loop began anew for ever, and nothing said why: {log}");
    assert_eq!(database.count("app.effects").await, 0);
}

/// What a function leaves to the end of the transaction is checked with its event, not with all of the batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_is_deferred_to_the_commit_fails_the_event_that_breaks_it() {
    let database = database().await;
    database
        .execute(
            "create table app.parents (id bigint primary key);
             create table app.children (id bigint references app.parents deferrable initially deferred)",
        )
        .await;
    let child_first = |n: i64| format!("insert into app.children values ({n}); insert into app.parents values ({n})");
    database
        .insert_events([
            doing("a", 1, &child_first(1)),
            doing("b", 2, "insert into app.children values (99)"),
            doing("c", 3, &child_first(3)),
            numbered("d", 4),
        ])
        .await;
    let running = run(&database, "retry.max_attempts = 2\n");

    wait_for_rows(&database, "deliveries where state = 'delivered'", 3).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'exhausted'", 1).await;
    let log = stop(running).await;
    assert!(!log.contains("could not go on"), "{log}");
    assert_eq!(effects(&database).await, [1, 3, 4]);
    assert_eq!(database.count("app.children").await, 2);
}
