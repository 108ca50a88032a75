//! Others on the same server: long writers, long readers, open temporary tables. None of them may hold up an event, and the relay must
//! not hold up their vacuum.

use std::time::Duration;

use outboxd::Verdict;
use sqlx::PgConnection;

use super::numbered;
use crate::support::{Recorder, TestDatabase, eventually, quick_handler, relay};

async fn busy(database: &TestDatabase, sql: &'static str) -> PgConnection {
    let mut connection = database.connect().await;
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("the neighbour works");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn long_writers_readers_and_temporary_tables_of_others_delay_no_event() {
    let (database, other, recorder) = (TestDatabase::create().await, TestDatabase::empty().await, Recorder::new());
    other.execute("create table public.work (n int)").await;
    let _neighbours = [
        busy(&other, "begin; insert into public.work values (1)").await,
        busy(&other, "begin isolation level repeatable read; select * from public.work").await,
        busy(&other, "begin; create temporary table scratch (n int); insert into scratch values (1)").await,
        // The same in the database of the outbox, with an event of which nobody knows yet.
        busy(&database, "begin; insert into outbox.events (type, payload) values ('late', '{\"n\": 0}')").await,
        busy(&database, "begin isolation level repeatable read; select * from outbox.events").await,
        busy(&database, "begin; create temporary table scratch (n int); select pg_current_xact_id()").await,
    ];
    let relay = relay(&database).configured_handler("all", recorder.handler(), quick_handler).start().expect("the relay starts");
    for number in 1..=50 {
        database.insert_event(numbered(number % 3, number)).await;
        // Each before the next is recorded: nobody waits for a neighbour to end.
        recorder.wait_for(usize::try_from(number).expect("small")).await;
    }
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), (1..=50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_of_the_relay_stays_in_a_transaction_while_a_receiver_hangs() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering_later(|_, _| std::future::pending::<Verdict>());
    let relay = relay(&database)
        .configure(|config| config.relay.drain_timeout = Duration::from_millis(100))
        .configured_handler("hanging", recorder.handler(), |config| config.timeout = Duration::from_secs(3600))
        .start()
        .expect("the relay starts");
    database.insert_events((1..=5).map(|number| numbered(number, number))).await;
    recorder.wait_for_calls(5).await;

    // Two renewals of the lease are the clock. A transaction that began before the first and is open at the second stayed open.
    let lease = "select lease_until::text from outbox.subscriptions";
    let renewed = async || {
        let before: String = sqlx::query_scalar(lease).fetch_one(database.pool()).await.expect("a lease");
        eventually("the lease is renewed", || async {
            let now: String = sqlx::query_scalar(lease).fetch_one(database.pool()).await.expect("a lease");
            (now != before).then_some(())
        })
        .await;
    };
    let began: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(database.pool()).await.expect("a time");
    renewed().await;
    renewed().await;
    let stayed = format!(
        "pg_stat_activity where datname = current_database() and application_name = 'outboxd relay'
         and xact_start <= '{began}'::timestamptz"
    );
    assert_eq!(database.count(&stayed).await, 0);
    relay.stop().await.expect("the relay stops");
}
