//! A function that ends its own session, in every way in which one ends: the event becomes a dead letter, `crashed`, all others take effect
//! once. An outage of the server spends nothing.

use outboxd::launcher::Postgres;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use super::{APPLICATION, TAKE, database, doing, effects, numbered, run, stop, texts, wait_for_rows};
use crate::support::{Binary, TestDatabase, eventually, own_server};

const SUICIDE: &str = "select pg_terminate_backend(pg_backend_pid())";

/// Thirty events of ten keys, and one that does this among them.
async fn insert_poison(database: &TestDatabase, sql: &str) {
    let rows = (1..=30).map(|n| if n == 13 { doing("poison", n, sql) } else { numbered(n % 10, n) });
    database.insert_events(rows).await;
}

async fn assert_only_the_poison_is_dead(database: &TestDatabase, attempts: i64) {
    let dead = texts(database, "select reason || ' ' || attempts from outbox.deliveries where state = 'dead'").await;
    assert_eq!(dead, [format!("crashed {attempts}")]);
    let mut taken = effects(database).await;
    taken.sort_unstable();
    assert_eq!(taken, (1..=30).filter(|n| *n != 13).collect::<Vec<_>>());
    for key in 0..10 {
        let sql = format!("select n::text from app.effects where n % 10 = {key} order by seq");
        let numbers: Vec<i64> = texts(database, &sql).await.iter().map(|n| n.parse().expect("a number")).collect();
        assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
    }
}

/// Seen: nothing was counted, and the loop began anew for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_ends_its_own_session_costs_its_event_alone() {
    let database = database().await;
    insert_poison(&database, SUICIDE).await;
    let running = run(&database, "retry.max_attempts = 3\n");

    wait_for_rows(&database, "deliveries where state = 'dead'", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 29).await;
    let log = stop(running).await;
    assert_only_the_poison_is_dead(&database, 3).await;
    assert_eq!(database.count("attempts where reason = 'crashed' and detail like '%terminating connection%'").await, 3);
    assert!(!log.contains("could not go on"), "{log}");
}

/// What dies with the check of a deferred constraint has a verdict, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_ends_the_session_at_the_commit_costs_its_event_alone() {
    let database = database().await;
    database
        .execute(&format!(
            "create table app.deadly (n bigint);
             create function app.die() returns trigger language plpgsql as $$ begin perform {}; return null; end $$;
             create constraint trigger deadly after insert on app.deadly deferrable initially deferred for each row execute function app.die()",
            SUICIDE.trim_start_matches("select ")
        ))
        .await;
    insert_poison(&database, "insert into app.deadly values (1)").await;
    let running = run(&database, "retry.max_attempts = 3\n");

    wait_for_rows(&database, "deliveries where state = 'dead'", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 29).await;
    stop(running).await;
    assert_only_the_poison_is_dead(&database, 3).await;
}

/// The calls succeed, and their commit fails every time, which no check before it can tell: the loop begins anew, and counts calls before
/// it makes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_whose_commit_fails_costs_its_event_alone() {
    let database = database().await;
    database
        .execute(
            "create table app.deadly (n bigint);
             create sequence app.runs;
             create function app.refuse_every_second_time() returns trigger language plpgsql as $$
             begin
                 if nextval('app.runs') % 2 = 0 then raise exception 'not at the commit'; end if;
                 return null;
             end $$;
             create constraint trigger deadly after insert on app.deadly deferrable initially deferred
                 for each row execute function app.refuse_every_second_time()",
        )
        .await;
    insert_poison(&database, "insert into app.deadly values (1)").await;
    let running = run(&database, "retry.max_attempts = 2\n");

    wait_for_rows(&database, "deliveries where state = 'dead'", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 29).await;
    let log = stop(running).await;
    assert_only_the_poison_is_dead(&database, 2).await;
    assert!(log.contains("could not record what the functions of this turn did"), "{log}");
}

/// A server of its own with outbox and application, because it is to crash.
async fn server() -> (Postgres, String, PgPool) {
    let server = own_server(&[]).await;
    let url = server.url("postgres");
    let options: PgConnectOptions = url.parse().expect("the launcher gives a valid address");
    let pool = PgPool::connect_with(options.options([("search_path", "outbox,pg_catalog,public")])).await.expect("connected");
    outboxd::store::migrate(&pool, "outbox", None).await.expect("the migrations apply");
    pool.execute(APPLICATION).await.expect("created");
    (server, url, pool)
}

async fn rows(url: &str, what: &str) -> Option<i64> {
    let mut connection = PgConnection::connect(url).await.ok()?;
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {what}"))).fetch_one(&mut connection).await.ok()
}

/// Inserts these numbers, of five keys; number 3 does this.
async fn insert_at(pool: &PgPool, numbers: std::ops::RangeInclusive<i64>, does: &str) {
    for n in numbers {
        let payload = if n == 3 { serde_json::json!({ "n": n, "does": does }) } else { serde_json::json!({ "n": n }) };
        sqlx::query("insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('t', 'order', $1, $2)")
            .bind(if n == 3 { "poison".to_owned() } else { (n % 5).to_string() })
            .bind(payload)
            .execute(pool)
            .await
            .expect("the event is well formed");
    }
}

/// A crash in an extension, or a process that runs out of memory: all sessions end, the server recovers, and it was one function.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_crashes_the_server_becomes_a_dead_letter_and_the_others_take_effect_once() {
    let (_server, url, pool) = server().await;
    let crash =
        "do $d$ begin execute 'copy (select 1) to program ''kill -9 ' || pg_backend_pid() || ''''; perform pg_sleep(60); end $d$";
    insert_at(&pool, 1..=20, crash).await;
    let running = Binary::relay(&url, &format!("{TAKE}retry.max_attempts = 2\n")).spawn(&["run"]);

    eventually("the poison is a dead letter", || async {
        (rows(&url, "outbox.deliveries where state = 'dead' and reason = 'crashed'").await == Some(1)).then_some(())
    })
    .await;
    eventually("the others are delivered", || async {
        (rows(&url, "outbox.deliveries where state = 'delivered'").await == Some(19)).then_some(())
    })
    .await;
    stop(running).await;
    assert_eq!(rows(&url, "app.effects").await, Some(19));
    assert_eq!(rows(&url, "(select distinct n from app.effects) n").await, Some(19));
}

/// The server is restarted while a function runs: nobody's fault, and nobody pays.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_in_the_middle_of_a_call_spends_nothing() {
    let (mut server, url, pool) = server().await;
    let running = Binary::relay(&url, &format!("{TAKE}retry.max_attempts = 1\nlock_timeout = \"60s\"\n")).spawn(&["run"]);
    for round in 0..3 {
        let mut gate = PgConnection::connect(&url).await.expect("connected");
        gate.execute("select pg_advisory_lock(42)").await.expect("locked");
        let wait = "select pg_advisory_xact_lock_shared(42)";
        insert_at(&pool, 3..=3, wait).await;
        eventually("a function is at the gate", || async {
            (rows(&url, "pg_locks where locktype = 'advisory' and objid = 42 and not granted").await == Some(1)).then_some(())
        })
        .await;
        server = tokio::task::spawn_blocking(move || {
            if round == 1 {
                server.kill();
                server.start_again().expect("it starts again");
            } else {
                server.restart().expect("it restarts");
            }
            server
        })
        .await
        .expect("no panic");
        eventually("its event is delivered", || async {
            (rows(&url, "outbox.deliveries where state = 'delivered' and attempts = 1").await == Some(round + 1)).then_some(())
        })
        .await;
    }
    stop(running).await;
    assert_eq!(rows(&url, "outbox.attempts").await, Some(0));
    assert_eq!(rows(&url, "app.effects").await, Some(3));
}
