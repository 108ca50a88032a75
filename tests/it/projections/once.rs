//! Exactly once: relays that are killed, sessions that are ended, and two relays at once, with concurrent writers.

use serde_json::json;
use uuid::Uuid;

use super::{
    assert_each_had_its_effects_once, assert_equals_the_log, binary, command, database, entry, listed, number, row, stop,
    wait_for_events, wait_until_in_the_present, write_concurrently,
};
use crate::support::{Running, TestDatabase, eventually};

/// What a projection would do twice or never if effect and position were not one: killed before, between and behind them.
#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_projected_once_wherever_the_relay_is_killed() {
    let database = database([1]).await;
    let calm = binary(&database, &[entry(1, "")]);
    let running = calm.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    stop(running).await;

    let mut committed = 0;
    for point in ["projection-called", "projection-recorded", "projection-committed"] {
        let dying = calm.clone().env(outboxd::failpoints::VARIABLE, &format!("{point}=kill@3"));
        let running = dying.spawn(&["run"]);
        committed += write_concurrently(&database, 4, 20).await;
        // The third batch may need one more event.
        let ended = end_of(running, &database, &mut committed).await;
        assert_eq!(ended, None, "it was killed at {point}");
    }
    let running = calm.spawn(&["run"]);
    wait_for_events(&database, 1, committed).await;
    stop(running).await;
    assert_equals_the_log(&database, 1).await;
    assert_each_had_its_effects_once(&database).await;
    assert_eq!(number(&database, "select count(*) from app.applied").await, committed);
}

/// Records one event after the other until the process has ended, and gives its exit code.
async fn end_of(mut running: Running, database: &TestDatabase, committed: &mut i64) -> Option<i32> {
    while running.is_running() {
        database.insert_event(row("late", 1)).await;
        *committed += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    running.finish().await.code
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_ended_under_a_projection_cost_nothing() {
    let database = database([1]).await;
    let binary = binary(&database, &[entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    let ending = tokio::spawn({
        let pool = database.pool().clone();
        async move {
            for _ in 0..15 {
                let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                            where datname = current_database() and pid <> pg_backend_pid() and query ~ 'project_sales|projections|savepoint'
                              and application_name <> 'outboxd test'";
                sqlx::query(sql).execute(&pool).await.expect("sessions can be ended");
                tokio::time::sleep(std::time::Duration::from_millis(40)).await;
            }
        }
    });
    let committed = write_concurrently(&database, 4, 60).await;
    ending.await.expect("nobody panics");
    wait_for_events(&database, 1, committed).await;
    stop(running).await;
    assert_equals_the_log(&database, 1).await;
    assert_each_had_its_effects_once(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_projects_and_the_other_takes_over_when_it_stands_still() {
    let database = database([1]).await;
    let binary = binary(&database, &[entry(1, "")]);
    let (one, other) = (binary.spawn(&["run"]), binary.spawn(&["run"]));
    wait_until_in_the_present(&database, 1).await;
    let mut committed = write_concurrently(&database, 4, 20).await;
    wait_for_events(&database, 1, committed).await;

    let owner: i32 = number(
        &database,
        "select i.pid::bigint from outbox.subscriptions s join outbox.instances i on i.id::text = s.owner where s.handler = 'sales@1'",
    )
    .await
    .try_into()
    .expect("a process id");
    let (owner, next) = if one.pid().cast_signed() == owner { (one, other) } else { (other, one) };
    owner.freeze();
    committed += write_concurrently(&database, 4, 20).await;
    wait_for_events(&database, 1, committed).await;
    owner.thaw();
    committed += write_concurrently(&database, 4, 20).await;
    wait_for_events(&database, 1, committed).await;
    stop(owner).await;
    stop(next).await;
    assert_equals_the_log(&database, 1).await;
    assert_each_had_its_effects_once(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_is_replayed_and_what_comes_after_is_not() {
    let database = database([1]).await;
    database.insert_events((0..5).map(|n| row(n, n))).await;
    let binary = binary(&database, &[entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_for_events(&database, 1, 5).await;
    wait_until_in_the_present(&database, 1).await;
    database.insert_events((5..8).map(|n| row(n, n))).await;
    wait_for_events(&database, 1, 8).await;
    // A catch-up after a stop is no replay: nobody has had the effects of these.
    stop(running).await;
    database.insert_events((8..10).map(|n| row(n, n))).await;
    let running = binary.spawn(&["run"]);
    wait_for_events(&database, 1, 10).await;
    stop(running).await;
    assert_equals_the_log(&database, 1).await;
    let replayed = "select string_agg(n::text, ' ' order by place) from app.applied where replayed";
    let replayed: String = sqlx::query_scalar(replayed).fetch_one(database.pool()).await.expect("it can be read");
    assert_eq!(replayed, "0 1 2 3 4");
    assert_eq!(number(&database, "select count(*) from app.effects").await, 5);
}

/// A reader that has recorded an event can wait until the read table has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_can_wait_until_a_projection_has_its_event() {
    let database = database([1]).await;
    let binary = binary(&database, &[entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    let event = database.insert_event(row("ann", 7)).await;
    command(&binary, &["events", "wait", &event.to_string(), "--handlers", "sales@1"]).await;
    assert_eq!(number(&database, "select total from app.sales_1 where key = 'order/ann'").await, 7);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_and_removes_a_projection_and_one_that_comes_back_goes_on_where_it_was() {
    let database = database([1]).await;
    let other = "[[handlers]]\nname = \"all\"\nkind = \"discard\"\n".to_owned();
    let binary = binary(&database, std::slice::from_ref(&other));
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    database.insert_events((0..5).map(|n| row(n, n))).await;
    let with = crate::support::Binary::relay_config(database.url(), &[other.clone(), entry(1, "")].concat());
    let without = crate::support::Binary::relay_config(database.url(), &other);
    binary.rewrite(&with);
    command(&binary, &["reload"]).await;
    wait_for_events(&database, 1, 5).await;
    wait_until_in_the_present(&database, 1).await;
    binary.rewrite(&without);
    command(&binary, &["reload"]).await;
    eventually("nobody owns it", || async { listed(&binary, 1).await["owner"].is_null().then_some(()) }).await;
    database.insert_events((5..8).map(|n| row(n, n))).await;
    binary.rewrite(&with);
    command(&binary, &["reload"]).await;
    wait_for_events(&database, 1, 8).await;
    stop(running).await;
    assert_equals_the_log(&database, 1).await;
    assert_eq!(number(&database, "select count(*) from app.effects").await, 3, "those that came while it was away are no history");
}

/// The projection has had the event that a correction is made from; the correction is for one handler, in the past and live.
#[tokio::test(flavor = "multi_thread")]
async fn a_correction_for_a_handler_is_no_event_of_a_projection() {
    let database = database([1]).await;
    let correction = || {
        let headers = json!({ "outboxd-corrects": Uuid::new_v4(), "outboxd-only-for": "billing" });
        row("a", 100).headers(headers)
    };
    database.insert_events([row("a", 1), correction(), row("a", 2)]).await;
    let running = binary(&database, &[entry(1, "")]).spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    wait_for_events(&database, 1, 2).await;
    database.insert_events([correction(), row("a", 4)]).await;
    wait_for_events(&database, 1, 3).await;
    stop(running).await;
    assert_eq!(number(&database, "select total from app.sales_1").await, 7);
    assert_eq!(number(&database, "select count(*) from app.applied").await, 3);
}
