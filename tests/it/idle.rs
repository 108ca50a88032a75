//! What a relay costs while nothing happens, counted by the server: transactions that have ended in its database.

use std::time::Duration;

use crate::support::{Binary, NewRow, TestDatabase, eventually, get};

/// Transactions that have ended in this database so far, and the server's clock in seconds.
async fn ended(database: &TestDatabase) -> (i64, f64) {
    sqlx::query_as(
        "select xact_commit + xact_rollback, extract(epoch from clock_timestamp())::double precision
           from pg_stat_database where datname = current_database()",
    )
    .fetch_one(database.pool())
    .await
    .expect("the server counts")
}

/// How many end in a second, over so long.
async fn rate(database: &TestDatabase, over: Duration) -> f64 {
    let (count, began) = ended(database).await;
    let after = eventually("the time is over", || async {
        tokio::time::sleep(over / 10).await;
        let (after, now) = ended(database).await;
        (now - began >= over.as_secs_f64()).then_some((after, now))
    })
    .await;
    (after.0 - count) as f64 / (after.1 - began)
}

/// A handler that was paused when the bell rang has not looked since. Resumed while all sleep, it must not take the sleep of the others for its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_resumed_while_the_relay_sleeps_reads_what_came_meanwhile() {
    let database = TestDatabase::create().await;
    let entries = "[[handlers]]\nname = \"held\"\nkind = \"discard\"\n[[handlers]]\nname = \"other\"\nkind = \"discard\"\n";
    let binary = Binary::relay(database.url(), entries);
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    for round in 1..=5 {
        eventually("the relay sleeps", || async { database.has_sleeping_relay().await.then_some(()) }).await;
        let paused = binary.run(&["handlers", "pause", "held", "--because", "a test"]).await;
        assert_eq!(paused.code, Some(0), "{paused:?}");
        database.insert_event(NewRow::new("a")).await;
        // The one that is held may have it as well: it learns of the pause a little later.
        let delivered = |handler: &str| {
            format!(
                "deliveries d join subscriptions s on s.id = d.subscription where d.state = 'delivered' and s.handler = '{handler}'"
            )
        };
        eventually("the other one has it", || async { (database.count(&delivered("other")).await == round).then_some(()) }).await;
        eventually("the relay sleeps again", || async { database.has_sleeping_relay().await.then_some(()) }).await;
        let resumed = binary.run(&["handlers", "resume", "held"]).await;
        assert_eq!(resumed.code, Some(0), "{resumed:?}");
        eventually("the one that was held has it", || async { (database.count(&delivered("held")).await == round).then_some(()) })
            .await;
    }
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// Seen: ten handlers with nothing to do kept one and a half processors busy with 3,800 transactions a second, because a read under way
/// counted as work: the bell was taken, given back and rung again, and each ring made every loop read.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_with_nothing_to_do_leave_the_bell_alone() {
    for handlers in [1, 10, 100, 1_000] {
        let database = TestDatabase::create().await;
        let entries: String = (0..handlers).map(|n| format!("[[handlers]]\nname = \"h{n}\"\nkind = \"discard\"\n")).collect();
        let (running, _) = Binary::relay_with_http(database.url(), &entries).serve().await;
        eventually("the relay sleeps", || async { database.has_sleeping_relay().await.then_some(()) }).await;

        // Leases, looks for all, alerts, and what this test asks itself. The first looks of each loop end before.
        let bound = 30.0;
        let mut idle = f64::MAX;
        for _ in 0..40 {
            idle = rate(&database, Duration::from_secs(5)).await;
            if idle < bound {
                break;
            }
        }
        println!("{handlers} idle handlers end {idle:.1} transactions a second");
        assert!(idle < bound, "{handlers} idle handlers end {idle:.0} transactions a second, at most {bound:.0} can be explained");

        database.insert_event(NewRow::new("a")).await;
        eventually("each of them has it", || async {
            (database.count("deliveries where state = 'delivered'").await == i64::from(handlers)).then_some(())
        })
        .await;

        // A row that somebody changes behind everybody's back is found all the same.
        eventually("the relay sleeps again", || async { database.has_sleeping_relay().await.then_some(()) }).await;
        database.execute("update deliveries set state = 'retrying', due_at = clock_timestamp(), handled_at = null").await;
        eventually("each of them has it again", || async {
            (database.count("deliveries where state = 'delivered' and attempts = 2").await == i64::from(handlers)).then_some(())
        })
        .await;
        running.terminate();
        assert_eq!(running.finish().await.code, Some(0));
    }
}

/// A loop that waits for its rate sleeps until the next attempt may begin, and is neither stalled nor stuck meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_with_a_rate_is_quiet_without_events_and_while_they_wait() {
    let database = TestDatabase::create().await;
    let config = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\nstall_after = \"2s\"\n\
         [relay]\nlease = \"3s\"\nflush_interval = \"20ms\"\n[[handlers]]\nname = \"slow\"\nkind = \"discard\"\nrate = \"1/h\"\n",
        database.url()
    );
    let binary = Binary::with_config(&config);
    let (running, address) = binary.serve().await;
    eventually("the relay sleeps", || async { database.has_sleeping_relay().await.then_some(()) }).await;
    let is_quiet = || async { (rate(&database, Duration::from_secs(5)).await < 30.0).then_some(()) };
    eventually("it is quiet without events", is_quiet).await;

    database.insert_events((0..50).map(|key| NewRow::new("a").of("order", key))).await;
    eventually("one is delivered", || async { (database.count("deliveries where state = 'delivered'").await == 1).then_some(()) })
        .await;
    eventually("it is quiet while the others wait", is_quiet).await;
    let (code, reasons) = get(&address, "/readyz").await.expect("it answers");
    assert_eq!(code, 200, "{reasons}");
    let handlers = binary.run(&["handlers", "list"]).await;
    assert!(!handlers.stdout.contains("stuck"), "{handlers:?}");
    assert_eq!(database.count("deliveries").await, 1, "the second one is an hour away");
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}
