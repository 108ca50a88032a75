//! Time: how long a transaction with calls lasts, and what becomes of the events for which it has none left.

use sqlx::Executor;

use super::{database, doing, effects, numbered, run, stop, wait_for_rows};

/// Seen: 500 calls in one transaction, whatever each of them took: vacuum and locks waited for it, and a statement timeout of 30 s could
/// never be met at 100 ms a call.
#[tokio::test(flavor = "multi_thread")]
async fn slow_calls_are_spread_over_many_transactions() {
    const COUNT: i64 = 40;
    let database = database().await;
    database.insert_events((0..COUNT).map(|n| doing(n % 20, n, "select pg_sleep(0.1)"))).await;
    let running = run(&database, "");

    wait_for_rows(&database, "deliveries where state = 'delivered'", COUNT).await;
    stop(running).await;
    // A lease of 3 s grants a turn 600 ms, which is time for six calls, and for the one that was under way.
    let transactions = database.count("(select distinct at from app.effects) t").await;
    assert!(transactions >= COUNT / 7, "{transactions}");
    assert_eq!(database.count("attempts").await, 0, "nothing was spent on events that had to wait for their turn");
    let mut taken = effects(&database).await;
    taken.sort_unstable();
    assert_eq!(taken, (0..COUNT).collect::<Vec<_>>());
}

/// One call that needs longer than a turn gets a turn of its own, with all the time that its handler's settings grant.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_needs_longer_than_a_turn_succeeds_alone() {
    let database = database().await;
    database
        .insert_events((0..30).map(|n| if n == 20 { doing("slow", n, "select pg_sleep(1.5)") } else { numbered(n % 7, n) }))
        .await;
    let running = run(&database, "statement_timeout = \"60s\"\n");

    wait_for_rows(&database, "deliveries where state = 'delivered'", 30).await;
    stop(running).await;
    assert_eq!(database.count("attempts").await, 0);
    let alone = "app.effects where at = (select at from app.effects where n = 20)";
    assert_eq!(database.count(alone).await, 1, "it shared its transaction, whose locks the others would have held meanwhile");
    let mut taken = effects(&database).await;
    taken.sort_unstable();
    assert_eq!(taken, (0..30).collect::<Vec<_>>());
}

/// Seen: a batch in which every call waited for a lock lasted 500 times the lock timeout, in one transaction.
#[tokio::test(flavor = "multi_thread")]
async fn waits_for_locks_are_counted_and_other_keys_go_on() {
    let database = database().await;
    database.execute("create table app.rows (n bigint); insert into app.rows values (1)").await;
    let mut application = database.connect().await;
    application.execute("begin; update app.rows set n = 2").await.expect("locked");
    let rows = (0..40).map(|n| if n < 4 { doing(format!("locked{n}"), n, "update app.rows set n = 3") } else { numbered(n, n) });
    database.insert_events(rows).await;
    let running = run(&database, "lock_timeout = \"700ms\"\nretry.max_attempts = 1000\ncircuit.minimum = 1000\n");

    wait_for_rows(&database, "deliveries where state = 'delivered'", 36).await;
    wait_for_rows(&database, "(select seq from attempts where reason = 'conflict' group by seq) s", 4).await;
    let shared = "(select xmin from attempts where attempt = 1 group by xmin having count(*) > 1) t";
    assert_eq!(database.count(shared).await, 0, "two waits of 700 ms are longer than a turn");
    application.execute("rollback").await.expect("unlocked");
    wait_for_rows(&database, "deliveries where state = 'delivered'", 40).await;
    stop(running).await;
    assert_eq!(effects(&database).await.len(), 40);
}
