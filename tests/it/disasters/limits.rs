//! A server that has reached a limit: no connections left, nothing may be written, statements cut short, the disk full. The relay says
//! so, loses nothing, and goes on when there is room again.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{connect, number, numbered, record, relay_at, server_with_outbox, wait_until_ready};
use crate::support::{Recorder, TestDatabase, eventually, quick_handler, relay};

const CUT: &str = "select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and application_name = 'outboxd relay'";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_connection_to_spare_is_waited_for_and_nothing_is_lost() {
    let (_server, url) = server_with_outbox(&[("max_connections", "25")]).await;
    let recorder = Recorder::new();
    let relay = relay_at(&url, &recorder);
    let mut held = vec![connect(&url).await];
    record(&mut held[0], [1]).await;
    recorder.wait_for(1).await;
    eventually("its outcome is recorded", || async {
        (number(&mut connect(&url).await, "select count(*) from outbox.deliveries").await == 1).then_some(())
    })
    .await;

    // What the relay has to give up is taken before it can come back.
    while relay.health().ready {
        held[0].execute(CUT).await.expect("the relay's sessions end");
        while let Ok(connection) = PgConnection::connect(&url).await {
            held.push(connection);
        }
    }
    record(&mut held[0], 2..=10).await;
    assert_eq!(recorder.numbers(), [1]);
    held.clear();

    recorder.wait_for(10).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), (1..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_set_to_be_read_only_does_not_stop_the_relay() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).configured_handler("all", recorder.handler(), quick_handler).start().expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;
    recorder.wait_for(1).await;
    let name = database.url().rsplit('/').next().expect("an address has a path").to_owned();

    // The sessions of the relay begin anew under the setting, and have their own.
    database.execute(&format!("alter database {name} set default_transaction_read_only = on; {CUT}")).await;
    let mut producer = database.connect().await;
    producer.execute("set default_transaction_read_only = off").await.expect("set");
    record(&mut producer, 2..=10).await;
    recorder.wait_for_ids(10).await;
    wait_until_ready(&relay).await;
    producer.execute(AssertSqlSafe(format!("alter database {name} reset default_transaction_read_only"))).await.expect("reset");

    relay.stop().await.expect("the relay stops");
    assert_eq!(database.count("deliveries where state = 'delivered'").await, 10);
}

/// What a role is given by an administrator holds for sessions that do not say otherwise; the relay does.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_whose_statements_are_cut_short_does_not_cut_the_relays() {
    let database = TestDatabase::create().await;
    let name = database.url().rsplit('/').next().expect("an address has a path").to_owned();
    database
        .execute(&format!("create role {name} login superuser password 'x'; alter role {name} set statement_timeout = '1ms'"))
        .await;
    let mut url: url::Url = database.url().parse().expect("an address");
    url.set_username(&name).and_then(|()| url.set_password(Some("x"))).expect("the address has a host");
    let mut short = connect(url.as_str()).await;
    short.execute("select pg_sleep(1)").await.expect_err("the role has a millisecond");

    let recorder = Recorder::new();
    let relay = relay_at(url.as_str(), &recorder);
    database.insert_events((1..=200).map(|number| numbered(number % 7, number))).await;
    recorder.wait_for(200).await;
    relay.stop().await.expect("the relay stops");
    short.close().await.ok();

    assert_eq!((recorder.calls().len(), database.count("deliveries where state = 'delivered'").await), (200, 200));
    database.execute(&format!("drop role {name}")).await;
}

/// A full disk as the relay meets it: what extends a table fails with 53100, everything else works. A disk cannot be filled by a test
/// that is not root; the error is the server's own code.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_an_outcome_is_waited_for_and_nothing_is_lost() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).configured_handler("all", recorder.handler(), quick_handler).start().expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;
    recorder.wait_for(1).await;
    eventually("its outcome is recorded", || async { (database.count("deliveries").await == 1).then_some(()) }).await;

    database
        .execute(
            "create function full_disk() returns trigger language plpgsql as $$
             begin
                 raise exception 'could not extend file: No space left on device' using errcode = 'disk_full';
             end $$;
             create trigger full_disk before insert on outbox.deliveries execute function full_disk()",
        )
        .await;
    database.insert_events((2..=50).map(|number| numbered(number % 7, number))).await;
    // Each life of the loop ends at its flush, delivers no more than a room, and pauses ever longer before the next.
    recorder.wait_for_calls(1 + 49 + 1).await;
    assert_eq!(database.count("deliveries").await, 1);
    database.execute("drop trigger full_disk on outbox.deliveries").await;

    eventually("everything is recorded", || async {
        (database.count("deliveries where state = 'delivered'").await == 50).then_some(())
    })
    .await;
    relay.stop().await.expect("the relay stops");
    for key in 0..7 {
        let mut numbers = recorder.numbers_of(&key.to_string());
        let mut seen = std::collections::BTreeSet::new();
        numbers.retain(|number| seen.insert(*number));
        assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
    }
}
