//! Commands and relays that die in the middle: one of two states is left, and the command can be given again.

use outboxd::failpoints::{PROJECTION_NAMES, VARIABLE};

use super::{
    assert_equals_the_log, binary, command, database, doing, entry, listed, number, row, stop, wait_for_events, wait_for_state,
};
use crate::support::{Binary, TestDatabase, eventually};

/// A command that is killed at this point.
async fn killed(binary: &Binary, point: &str, arguments: &[&str]) {
    let finished = binary.clone().env(VARIABLE, &format!("{point}=kill")).run(arguments).await;
    assert_eq!(finished.code, None, "{arguments:?} was not killed at {point}: {}", finished.stderr);
    assert!(PROJECTION_NAMES.contains(&point));
}

async fn two_versions() -> (TestDatabase, Binary) {
    let database = database([1, 2]).await;
    database.insert_events((0..50).map(|n| row(n % 7, n))).await;
    let binary = binary(&database, &[entry(1, ""), entry(2, "")]);
    (database, binary)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_dies_leaves_what_was_or_what_it_was_to_make() {
    let (database, binary) = two_versions().await;
    let running = binary.spawn(&["run"]);
    wait_for_events(&database, 1, 50).await;
    wait_for_state(&binary, 2, "ready").await;
    command(&binary, &["projections", "switch", "sales", "1", "--yes"]).await;

    let shows = "select substring(pg_get_viewdef('app.sales'::regclass) from 'sales_([0-9]+)')::bigint";
    let switch = ["projections", "switch", "sales", "2", "--yes"];
    for point in ["projection-switch-locked", "projection-view-replaced"] {
        killed(&binary, point, &switch).await;
        assert_eq!((number(&database, shows).await, &listed(&binary, 1).await["is_live"]), (1, &true.into()), "{point}");
    }
    // Committed: the answer is lost, and the same command says that it is so.
    killed(&binary, "projection-switched", &switch).await;
    assert_eq!((number(&database, shows).await, &listed(&binary, 2).await["is_live"]), (2, &true.into()));
    command(&binary, &switch).await;

    let rebuild = ["projections", "rebuild", "sales", "1", "--yes"];
    killed(&binary, "projection-restarted", &rebuild).await;
    assert_eq!(listed(&binary, 1).await["handled"], 50, "neither the table nor the position has changed");
    assert_equals_the_log(&database, 1).await;
    command(&binary, &rebuild).await;
    wait_for_events(&database, 1, 50).await;
    assert_equals_the_log(&database, 1).await;

    binary.rewrite(&Binary::relay_config(database.url(), &entry(2, "")));
    command(&binary, &["reload"]).await;
    eventually("nobody owns version 1", || async { listed(&binary, 1).await["owner"].is_null().then_some(()) }).await;
    let drop = ["projections", "drop", "sales", "1", "--target", "--yes"];
    killed(&binary, "projection-dropped", &drop).await;
    assert_equals_the_log(&database, 1).await;
    assert_eq!(database.count("subscriptions where handler = 'sales@1'").await, 1);
    command(&binary, &drop).await;
    assert_eq!(number(&database, "select count(to_regclass('app.sales_1'))").await, 0);
    stop(running).await;
    assert_equals_the_log(&database, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_that_dies_skips_nothing_and_a_relay_that_dies_at_a_poison_event_stands_there_again() {
    let database = database([1]).await;
    let mut rows: Vec<_> = (0..20).map(|n| row(n % 3, n)).collect();
    rows[9] = doing("p", 9, "select 1 / 0");
    let events = database.insert_events(rows).await;
    let binary = binary(&database, &[entry(1, "")]);
    let finished = binary.clone().env(VARIABLE, "projection-stopped=kill").run(&["run"]).await;
    assert_eq!(finished.code, None, "{}", finished.stderr);
    assert_eq!(listed(&binary, 1).await["state"], "stopped");
    let skip = ["projections", "skip", "sales", "1", &events[9].to_string(), "--yes"];
    killed(&binary, "projection-skipped", &skip).await;
    assert_eq!(number(&database, "select count(*) from outbox.projection_skips").await, 0);
    let running = binary.spawn(&["run"]);
    eventually("it has tried again", || async {
        (listed(&binary, 1).await["stopped"]["attempts"].as_i64() >= Some(2)).then_some(())
    })
    .await;
    command(&binary, &skip).await;
    wait_for_events(&database, 1, 20).await;
    stop(running).await;
    assert_eq!(number(&database, "select sum(total)::bigint from app.sales_1").await, (0..20).sum::<i64>() - 9);
}

/// Wherever the relay dies while a version is built, the version has each event once.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_goes_on_where_it_was_when_the_relay_dies() {
    let (database, binary) = two_versions().await;
    for point in ["projection-called", "projection-recorded", "projection-committed", "page-read"] {
        let dying = binary.clone().env(VARIABLE, &format!("{point}=kill@2")).spawn(&["run"]);
        let mut dying = dying;
        while dying.is_running() {
            database.insert_event(row("late", 1)).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let count = number(&database, "select count(*) from outbox.events").await;
    let running = binary.spawn(&["run"]);
    wait_for_events(&database, 1, count).await;
    wait_for_events(&database, 2, count).await;
    stop(running).await;
    assert_equals_the_log(&database, 1).await;
    assert_equals_the_log(&database, 2).await;
}
