//! What handlers of one relay record at the same moment is one transaction; and none of them waits for another because of it.

use std::time::Duration;

use sqlx::Executor;

use crate::support::{Binary, NewRow, TestDatabase, eventually};

fn handlers(count: usize) -> String {
    (0..count).map(|n| format!("[[handlers]]\nname = \"h{n}\"\nkind = \"discard\"\n")).collect()
}

async fn insert_steadily(database: &TestDatabase, count: usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for number in 0..count {
        ticks.tick().await;
        database.insert_event(NewRow::new("order.placed").of("order", number % 7)).await;
    }
}

/// Deliveries of one handler, each recorded after its first attempt.
async fn delivered(database: &TestDatabase, handler: &str) -> i64 {
    let of_handler = format!("subscription = (select id from subscriptions where handler = '{handler}')");
    database.count(&format!("deliveries where state = 'delivered' and attempts = 1 and {of_handler}")).await
}

async fn transactions(database: &TestDatabase) -> i64 {
    sqlx::query_scalar("select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")
        .fetch_one(database.pool())
        .await
        .expect("the server counts")
}

/// Seen: a hundred handlers that all want the same event recorded it in a hundred transactions, and each looked for retries after it.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_want_the_same_events_record_them_together() {
    let database = TestDatabase::create().await;
    let running = Binary::relay(database.url(), &handlers(60)).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    insert_steadily(&database, 50).await;
    eventually("those are delivered", || async { (database.count("deliveries").await == 60 * 50).then_some(()) }).await;
    let mut fewest = i64::MAX;
    for _ in 0..4 {
        let before = transactions(&database).await;
        insert_steadily(&database, 250).await;
        fewest = fewest.min(transactions(&database).await - before);
    }
    println!("60 handlers: {fewest} transactions for 250 events");
    assert!(fewest < 3_000, "{fewest} transactions for 250 events: each handler records for itself");
    eventually("all are delivered", || async {
        (database.count("deliveries where attempts = 1").await == 60 * 1_050).then_some(())
    })
    .await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// Statements that wait for a lock now.
async fn waiting_for_a_lock(database: &TestDatabase) -> Vec<String> {
    let sql = "select query from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::query_scalar(sql).fetch_all(database.pool()).await.expect("the sessions")
}

/// Seen: the leases of all handlers were renewed in one statement, which waited for the one that was locked until all were lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_somebody_has_locked_holds_up_nobody_else() {
    let database = TestDatabase::create().await;
    let running = Binary::relay(database.url(), &handlers(8)).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    insert_steadily(&database, 20).await;
    eventually("those are delivered", || async { (database.count("deliveries").await == 8 * 20).then_some(()) }).await;

    let mut person = database.pool().begin().await.expect("a transaction");
    sqlx::query("select from subscriptions where handler = 'h3' for update")
        .execute(&mut *person)
        .await
        .expect("its row is locked");
    insert_steadily(&database, 20).await;
    let others = async |count: i64| {
        for number in [0, 1, 2, 4, 5, 6, 7] {
            let handler = format!("h{number}");
            eventually("the others have recorded", || async {
                let waiting = waiting_for_a_lock(&database).await;
                assert!(
                    !waiting.iter().any(|query| query.contains("record_together")),
                    "what is recorded together waits: {waiting:?}"
                );
                (delivered(&database, &handler).await == count).then_some(())
            })
            .await;
        }
    };
    others(40).await;
    eventually("the flush of its own waits", || async { (!waiting_for_a_lock(&database).await.is_empty()).then_some(()) }).await;
    // For longer than a lease lasts.
    let is_over = "subscriptions where handler = 'h3' and lease_until < clock_timestamp()";
    eventually("its lease is over", || async { (database.count(is_over).await == 1).then_some(()) }).await;
    insert_steadily(&database, 20).await;
    others(60).await;
    assert_eq!(database.count("subscriptions where lease_until > clock_timestamp()").await, 7, "the others are still owned");
    assert_eq!(delivered(&database, "h3").await, 20, "its row is locked");
    person.rollback().await.expect("it ends");
    eventually("it goes on", || async {
        let all = "deliveries where state = 'delivered' and subscription = (select id from subscriptions where handler = 'h3')";
        (database.count(all).await == 60).then_some(())
    })
    .await;
    running.terminate();
    let ended = running.finish().await;
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("could not renew"), "{ended:?}");
}

/// Seen on a busy machine: a round that renews leases met the row of a busy loop in the middle of that loop's own flush, skipped it twice in a row,
/// and the lease was given up. Whoever holds a row now and then, however often, costs no lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_locked_again_and_again_for_a_moment_keeps_its_lease() {
    let database = TestDatabase::create().await;
    let running = Binary::relay(database.url(), &handlers(8)).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    insert_steadily(&database, 20).await;
    eventually("those are delivered", || async { (database.count("deliveries").await == 8 * 20).then_some(()) }).await;
    let epochs = "(select distinct epoch from subscriptions) e";
    assert_eq!(database.count(epochs).await, 1);
    let before = database.count("subscriptions where epoch = 2").await;

    // The rows of three are held for nine tenths of three leases, a moment each time.
    let hold = async {
        let mut connection = database.connect().await;
        for _ in 0..100 {
            let held = "begin; select from outbox.subscriptions where handler in ('h1', 'h3', 'h5') for update; select pg_sleep(0.09); commit";
            connection.execute(held).await.expect("they are locked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(hold, insert_steadily(&database, 200));
    eventually("all have recorded", || async { (database.count("deliveries where attempts = 1").await == 8 * 220).then_some(()) })
        .await;
    assert_eq!((database.count(epochs).await, database.count("subscriptions where epoch = 2").await), (1, before));
    running.terminate();
    let ended = running.finish().await;
    assert!(ended.code == Some(0) && !ended.stderr.contains("lease lost"), "{ended:?}");
}

/// A server that refuses what is recorded together: each shows by itself whether it was the reason.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_of_one_handler_is_recorded_of_the_others() {
    let database = TestDatabase::create().await;
    let running = Binary::relay(database.url(), &handlers(8)).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    insert_steadily(&database, 20).await;
    eventually("those are delivered", || async { (database.count("deliveries").await == 8 * 20).then_some(()) }).await;

    database
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin
                 if (select handler from subscriptions where id = new.subscription) = 'h5' then raise exception 'not today'; end if;
                 return new;
             end $$",
        )
        .await;
    database.execute("create trigger refuse before insert on deliveries for each row execute function refuse()").await;
    insert_steadily(&database, 20).await;
    for number in [0, 1, 2, 3, 4, 6, 7] {
        let handler = format!("h{number}");
        eventually("the others have recorded", || async { (delivered(&database, &handler).await == 40).then_some(()) }).await;
    }
    assert_eq!(delivered(&database, "h5").await, 20, "what it has done is refused");
    database.execute("drop trigger refuse on deliveries").await;
    eventually("it goes on", || async { (delivered(&database, "h5").await == 40).then_some(()) }).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}
