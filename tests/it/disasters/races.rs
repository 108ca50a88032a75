//! Leases that are raced for, and leases that somebody takes away.

use std::collections::BTreeSet;

use super::numbered;
use crate::support::{Recorder, TestDatabase, eventually, quick_handler, relay};

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_start_at_once_fifty_times_deliver_every_event_once() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let start = || {
        relay(&database)
            .configured_handler("all", recorder.handler(), |config| {
                quick_handler(config);
                config.partitions = 3;
            })
            .start()
            .expect("the relay starts")
    };
    for round in 1..=50_i64 {
        let relays = [start(), start()];
        database.insert_events((0..6).map(|number| numbered(number, round * 6 + number))).await;
        recorder.wait_for(usize::try_from(round * 6).expect("small")).await;
        for stopping in relays.map(|relay| async { relay.stop().await }) {
            stopping.await.expect("the relay stops");
        }
    }
    assert_eq!(recorder.calls().len(), 300);
    assert_eq!(database.count("deliveries where state = 'delivered' and attempts = 1").await, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_takes_away_or_whose_clock_jumps_is_lost_and_taken_again() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).configured_handler("all", recorder.handler(), quick_handler).start().expect("the relay starts");
    let strokes = ["owner = null, lease_until = null", "lease_until = lease_until - interval '1 hour'", "epoch = epoch + 1"];
    for (round, stroke) in (0..6).zip(strokes.iter().cycle()) {
        database.insert_events((1..=20).map(|number| numbered(number % 3, round * 20 + number))).await;
        recorder.wait_for_ids(usize::try_from(round * 20 + 10).expect("small")).await;
        database.execute(&format!("update subscriptions set {stroke}")).await;
    }
    eventually("all is recorded", || async { (database.count("deliveries where state = 'delivered'").await == 120).then_some(()) })
        .await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.delivered().iter().map(|notification| notification.id).collect::<BTreeSet<_>>().len(), 120);
}

/// The row of a subscription is its lease and its position. Without it nothing can be recorded, so nothing goes on being delivered; the
/// other handlers do not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_deleted_under_its_owner_ends_its_deliveries_and_no_others() {
    let (database, gone, other) = (TestDatabase::create().await, Recorder::new(), Recorder::new());
    let relay = relay(&database)
        .configured_handler("gone", gone.handler(), quick_handler)
        .configured_handler("other", other.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;
    gone.wait_for(1).await;
    eventually("both have recorded it", || async { (database.count("deliveries").await == 2).then_some(()) }).await;

    database.execute("delete from subscriptions where handler = 'gone'").await;
    // Twice, because the round that was under way when it was deleted may not have noticed.
    for _ in 0..2 {
        let until = lease_until(&database).await;
        eventually("a round of leases has passed", || async { (lease_until(&database).await != until).then_some(()) }).await;
    }
    let before = gone.calls().len();
    for number in 2..=20 {
        database.insert_event(numbered("a", number)).await;
        other.wait_for(usize::try_from(number).expect("small")).await;
    }
    relay.stop().await.expect("the relay stops");
    assert!(gone.calls().len() <= before + 1, "{} after {before}", gone.calls().len());
    assert_eq!(other.numbers(), (1..=20).collect::<Vec<_>>());
}

async fn lease_until(database: &TestDatabase) -> String {
    let sql = "select lease_until::text from subscriptions where handler = 'other'";
    sqlx::query_scalar(sql).fetch_one(database.pool()).await.expect("the other has its lease")
}
