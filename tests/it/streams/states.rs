//! Kept states: they shorten a load, and are never believed against the events.

use std::sync::Arc;

use outboxd::uow::sourcing::{Root, Sourced};
use outboxd::uow::{Pipeline, Registry, UnitOfWork};

use super::account::{Account, Earn, Patient, earned};
use super::number;
use crate::support::TestDatabase;

async fn work(database: &TestDatabase) -> UnitOfWork {
    UnitOfWork::begin(database.pool(), &Arc::new(Registry::new())).await.expect("a transaction begins")
}

async fn load<A: Sourced>(database: &TestDatabase) -> Root<A> {
    Root::load("ann", &mut work(database).await).await.expect("it is loaded")
}

async fn is_true(database: &TestDatabase) -> bool {
    Root::<Account>::verify_state("ann", &mut work(database).await).await.expect("it is looked at")
}

/// 25 points, each by a command of its own.
async fn earned_25() -> (TestDatabase, Pipeline) {
    let database = TestDatabase::create().await;
    let pipeline = Pipeline::new(database.pool().clone(), Registry::new());
    for total in 1..=25 {
        assert_eq!(pipeline.send(&Earn::new("ann", 1)).await.expect("it is saved"), total);
    }
    (database, pipeline)
}

#[tokio::test]
async fn a_state_is_kept_every_ten_events_and_folded_on_from() {
    let (database, pipeline) = earned_25().await;
    assert_eq!(
        (number(database.pool(), "select version from stream_states").await, database.count("stream_states").await),
        (20, 1)
    );
    assert!(is_true(&database).await);
    // What lies before it is not read.
    database.execute("update events set payload = '{\"points\": 1000, \"reason\": \"order\"}' where aggregate_version <= 20").await;
    assert_eq!(load::<Account>(&database).await.state(), &Account { points: 25, events: 25 });
    assert_eq!(load::<Patient>(&database).await.state().0.points, 20_005, "who keeps no states folds all");
    assert!(!is_true(&database).await, "and that is found");
    for total in 26..=30 {
        assert_eq!(pipeline.send(&Earn::new("ann", 1)).await.expect("it is saved"), total);
    }
    assert_eq!(load::<Account>(&database).await.state().events, 30, "the state is of the last event");
}

#[tokio::test]
async fn a_state_of_another_shape_or_from_the_future_is_not_looked_at() {
    let (database, _) = earned_25().await;
    database.execute("update stream_states set shape = 2, state = '{\"points\": -1}'").await;
    assert_eq!(load::<Account>(&database).await.state().points, 25);
    database.execute("update stream_states set shape = 1, version = 99").await;
    assert_eq!(load::<Account>(&database).await.state().points, 25);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_told_left_out_and_replaced() {
    let (database, pipeline) = earned_25().await;
    database.execute("update stream_states set state = '{\"points\": \"many\"}'").await;
    let account = load::<Account>(&database).await;
    assert_eq!(account.state(), &Account { points: 25, events: 25 });
    assert!(account.ignored_state().is_some_and(|error| error.to_string().contains("many")), "{account:?}");
    pipeline.send(&Earn::new("ann", 1)).await.expect("it is saved");
    assert_eq!(number(database.pool(), "select version from stream_states").await, 26);
    let account = load::<Account>(&database).await;
    assert!(account.ignored_state().is_none() && is_true(&database).await && account.state().points == 26);
}

#[tokio::test]
async fn a_state_that_was_removed_is_missed_by_nobody_and_is_kept_again() {
    let (database, _) = earned_25().await;
    database.execute("delete from stream_states").await;
    assert_eq!(load::<Account>(&database).await.state().points, 25);
    let mut work = work(&database).await;
    let mut account = Root::<Account>::load("ann", &mut work).await.expect("it is loaded");
    (0..1_000).for_each(|_| account.record(earned(1)));
    account.save(&mut work).await.expect("it is saved");
    drop(work);
    assert_eq!(database.count("stream_states").await, 0, "what was not committed keeps no state");
}
