//! Versions beside one another: the new one is built while the old one goes on, never passes it, and takes its place in one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::PgPool;

use super::{
    assert_each_had_its_effects_once, assert_equals_the_log, binary, command, database, entry, listed, number, refused, row, sales,
    stop, wait_for_events, wait_for_state, wait_until_in_the_present, write_concurrently,
};
use crate::support::{Binary, TestDatabase, eventually};

/// Reads the view until it is told to stop: never both tables, never the old one again. Gives the version that it saw last.
fn read_the_view(pool: PgPool, stops: Arc<AtomicBool>) -> tokio::task::JoinHandle<i32> {
    tokio::spawn(async move {
        let (mut last, mut total) = (0, 0);
        while !stops.load(Ordering::Relaxed) {
            let sql = "select coalesce(array_agg(distinct version), '{}'), coalesce(sum(events), 0)::bigint from app.sales";
            let (versions, events): (Vec<i32>, i64) = sqlx::query_as(sql).fetch_one(&pool).await.expect("the view can be read");
            assert!(versions.len() <= 1, "a mixture: {versions:?}");
            let version = versions.first().copied().unwrap_or(last);
            assert!(version >= last, "the old version again");
            assert!(events >= total, "back in time: {events} after {total}, version {version} after {last}");
            (last, total) = (version, events);
        }
        last
    })
}

async fn reconfigure(binary: &Binary, database: &TestDatabase, entries: &[String]) {
    binary.rewrite(&Binary::relay_config(database.url(), &entries.concat()));
    command(binary, &["reload"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_built_beside_the_live_one_and_takes_its_place_without_a_reader_seeing_both() {
    let database = database([1, 2]).await;
    let binary = binary(&database, &[entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    // The first version is live from the start; the switch makes its view.
    command(&binary, &["projections", "switch", "sales", "1", "--yes"]).await;
    let stops = Arc::new(AtomicBool::new(false));
    let reader = read_the_view(database.pool().clone(), Arc::clone(&stops));
    let mut committed = write_concurrently(&database, 4, 50).await;

    // At this rate it is not there for a while.
    reconfigure(&binary, &database, &[entry(1, ""), entry(2, "").replace("100000/s", "10/s")]).await;
    wait_for_state(&binary, 2, "building").await;
    let refusal = refused(&binary, &["projections", "switch", "sales", "2", "--wait", "100ms", "--yes"]).await;
    assert!(refusal.contains("sales@2 has not caught up with sales@1: it has reached "), "{refusal}");
    let refusal = refused(&binary, &["projections", "rebuild", "sales", "1", "--yes"]).await;
    assert!(refusal.contains("sales@1 is live: readers would see it half full"), "{refusal}");
    command(&binary, &["projections", "rebuild", "sales", "2", "--rate", "100000/s", "--yes"]).await;

    let writing = tokio::spawn({
        let url = database.url().to_owned();
        async move {
            let pool = PgPool::connect(&url).await.expect("the server takes connections");
            for n in 0..200_i64 {
                sqlx::query("insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', $1, $2)")
                    .bind((n % 11).to_string())
                    .bind(serde_json::json!({ "n": n }))
                    .execute(&pool)
                    .await
                    .expect("the event is well formed");
            }
            200
        }
    });
    let switched = eventually("the switch succeeds", || async {
        let finished = binary.run(&["projections", "switch", "sales", "2", "--yes", "--json"]).await;
        (finished.code == Some(0)).then_some(finished)
    })
    .await;
    assert!(switched.stderr.contains("sales@2 is live instead of version 1; app.sales shows it"), "{}", switched.stderr);
    committed += writing.await.expect("the writer does not panic");
    committed += write_concurrently(&database, 4, 20).await;
    wait_for_events(&database, 2, committed).await;
    wait_for_events(&database, 1, committed).await;
    stops.store(true, Ordering::Relaxed);
    assert_eq!(reader.await.expect("the reader saw no mixture"), 2);
    assert_equals_the_log(&database, 1).await;
    assert_equals_the_log(&database, 2).await;
    assert_each_had_its_effects_once(&database).await;
    let both = "select count(distinct version) from app.effects";
    assert_eq!(number(&database, both).await, 2, "effects happened in both versions, each in its time");

    // And the old one goes.
    let refusal = refused(&binary, &["projections", "drop", "sales", "1", "--target", "--yes"]).await;
    assert!(refusal.contains("first remove it from the configuration and run `outboxd reload`"), "{refusal}");
    let refusal = refused(&binary, &["projections", "drop", "sales", "2", "--yes"]).await;
    assert!(refusal.contains("sales@2 is live; first make another version live"), "{refusal}");
    reconfigure(&binary, &database, &[entry(2, "")]).await;
    eventually("nobody owns version 1", || async { listed(&binary, 1).await["owner"].is_null().then_some(()) }).await;
    command(&binary, &["projections", "drop", "sales", "1", "--target", "--because", "replaced", "--yes"]).await;
    assert_eq!(number(&database, "select count(to_regclass('app.sales_1'))").await, 0);
    assert_eq!(database.count("subscriptions where handler = 'sales@1'").await, 0);
    assert_eq!(listed(&binary, 1).await["state"], "dropped");
    // Its number is not used again: a relay that still has it keeps its configuration, and one that starts with it refuses.
    binary.rewrite(&Binary::relay_config(database.url(), &[entry(1, ""), entry(2, "")].concat()));
    let refusal = refused(&binary, &["reload"]).await;
    assert!(refusal.contains("has had a version 1 that was dropped"), "{refusal}");
    database.insert_event(row("after", 1)).await;
    wait_for_events(&database, 2, committed + 1).await;
    stop(running).await;
    let refusal = refused(&binary, &["run"]).await;
    assert!(refusal.contains("has had a version 1 that was dropped"), "{refusal}");
    assert_eq!(database.count("audit where action in ('rebuild', 'switch', 'drop') and handler like 'sales@%'").await, 4);
}

/// Also from the beginning of both, and back: whichever version is live, the other one follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_never_passes_the_live_one_and_the_switch_goes_both_ways() {
    let database = database([1, 2]).await;
    database.insert_events((0..20).map(|n| row(n % 3, n))).await;
    let binary = binary(&database, &[entry(2, ""), entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_for_events(&database, 1, 20).await;
    assert_eq!(listed(&binary, 1).await["is_live"], true, "of versions that begin together the lowest is live");
    wait_for_events(&database, 2, 20).await;
    wait_until_in_the_present(&database, 1).await;
    stop(running).await;

    // Nobody serves the live version now. The other one is where that stands, and so it can be live at once; only then it goes on.
    database.insert_events((20..30).map(|n| row(n % 3, n))).await;
    binary.rewrite(&Binary::relay_config(database.url(), &entry(2, "")));
    let running = binary.spawn(&["run"]);
    wait_for_state(&binary, 2, "ready").await;
    assert_eq!(listed(&binary, 2).await["handled"], 20);
    command(&binary, &["projections", "switch", "sales", "2", "--yes"]).await;
    wait_for_events(&database, 2, 30).await;
    reconfigure(&binary, &database, &[entry(1, ""), entry(2, "")]).await;
    wait_for_events(&database, 1, 30).await;
    wait_for_state(&binary, 1, "ready").await;
    command(&binary, &["projections", "switch", "sales", "1", "--yes"]).await;
    database.insert_events((30..40).map(|n| row(n % 3, n))).await;
    wait_for_events(&database, 1, 40).await;
    wait_for_events(&database, 2, 40).await;
    stop(running).await;
    assert_equals_the_log(&database, 1).await;
    assert_equals_the_log(&database, 2).await;
    let effects = "select string_agg(version || ':' || n, ' ' order by n) from app.effects f
                     join outbox.events e on e.id = f.event cross join lateral (select (e.payload ->> 'n')::int as n) p";
    let effects: String = sqlx::query_scalar(effects).fetch_one(database.pool()).await.expect("it can be read");
    let want: Vec<String> = (20..40).map(|n| format!("{}:{n}", if n < 30 { 2 } else { 1 })).collect();
    assert_eq!(effects, want.join(" "), "history has none, and every other event has them once, in the version that was live");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_has_seen_fewer_events_is_live_only_if_that_is_accepted() {
    let database = database([1, 2]).await;
    database.insert_events((0..20).map(|n| row(n % 3, n))).await;
    let binary = binary(&database, &[entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_for_events(&database, 1, 20).await;
    // As retention does.
    let gone = "begin; select set_config('outboxd.changes_log', 'on', true); delete from outbox.events where (payload ->> 'n')::int < 4; commit";
    database.execute(gone).await;
    reconfigure(&binary, &database, &[entry(1, ""), entry(2, "")]).await;
    wait_for_state(&binary, 2, "ready").await;
    let refusal = refused(&binary, &["projections", "switch", "sales", "2", "--yes"]).await;
    let want = "sales@2 has read 16 events, and sales@1 has read 20 up to the same position: 4 are no longer in the log";
    assert!(refusal.contains(want), "{refusal}");
    let note = command(&binary, &["projections", "rebuild", "sales", "2", "--yes"]).await.stderr;
    assert!(
        note.contains(
            "events of type order.placed are not part of a stream; the rebuilt table lacks those that retention has removed"
        ),
        "{note}"
    );
    wait_for_state(&binary, 2, "ready").await;
    command(&binary, &["projections", "switch", "sales", "2", "--accept-missing", "--yes"]).await;
    stop(running).await;
    assert_equals_the_log(&database, 2).await;
}

/// Rights and comments stay although the columns change, and a view that something depends on is not taken away from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_with_other_columns_keeps_its_rights_and_one_that_cannot_be_replaced_stays() {
    let database = database([1]).await;
    let other = sales(2).replace("key text primary key, total bigint", "day date, key text primary key, total bigint");
    database.execute(&other).await;
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    let binary = binary(&database, &[entry(1, ""), entry(2, "")]);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    wait_for_state(&binary, 2, "ready").await;
    command(&binary, &["projections", "switch", "sales", "1", "--yes"]).await;
    database
        .execute(&format!(
            "create role {role}; grant select on app.sales to {role} with grant option; grant select on app.sales to public;
             comment on view app.sales is 'what was sold''';
             create view app.report as select sum(total) from app.sales"
        ))
        .await;
    let refusal = refused(&binary, &["projections", "switch", "sales", "2", "--yes"]).await;
    assert!(refusal.contains("Postgres refused to let the view app.sales show app.sales_2"), "{refusal}");
    assert_eq!(listed(&binary, 1).await["is_live"], true);
    database.execute("drop view app.report").await;
    command(&binary, &["projections", "switch", "sales", "2", "--yes"]).await;
    assert_eq!(number(&database, "select count(*) from app.sales where day is null").await, 0, "it has the new columns");
    let rights = format!(
        "select count(*) from information_schema.role_table_grants where table_name = 'sales' and privilege_type = 'SELECT'
            and (grantee = 'PUBLIC' or grantee = '{role}' and is_grantable = 'YES')"
    );
    assert_eq!(number(&database, &rights).await, 2);
    assert_eq!(number(&database, "select count(*) where obj_description('app.sales'::regclass) = 'what was sold'''").await, 1);
    stop(running).await;
    database.execute(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_part_a_table_from_its_position_is_refused_with_what_to_do_instead() {
    let database = database([1]).await;
    let binary = binary(&database, &[entry(1, "")]);
    let empty = command(&binary, &["projections", "list"]).await.stdout;
    assert_eq!(empty, "no projections: add [[projections]] to the configuration and run `outboxd reload`\n");
    let running = binary.spawn(&["run"]);
    let event = database.insert_event(row("a", 1)).await.to_string();
    wait_for_events(&database, 1, 1).await;
    for (arguments, want) in [
        (&["handlers", "rewind", "sales@1", "--to", "beginning", "--force", "--yes"][..], "outboxd projections rebuild"),
        (&["handlers", "start-from", "sales@1", "now", "--yes"], "outboxd projections rebuild"),
        (&["handlers", "rename", "sales@1", "shop", "--yes"], "build it under its new name"),
        (&["handlers", "repartition", "sales@1", "2", "--yes"], "keeps the order of the log"),
        (&["handlers", "forget", "sales@1", "--yes"], "outboxd projections drop"),
        (&["events", "bury", &event, "--handler", "sales@1", "--because", "x", "--yes"], "outboxd projections skip"),
        (&["projections", "switch", "sale", "1", "--yes"], "there is no projection \"sale\"; existing: sales"),
        (&["projections", "switch", "sales", "2", "--yes"], "sales has no version 2; it has 1"),
        (&["projections", "skip", "sales", "1", &event, "--yes"], "sales@1 has not stopped at an event"),
        (&["projections", "retry", "sales", "1"], "sales@1 has not stopped at an event"),
        (&["projections", "switch", "sales", "1", "--wait", "1h", "--yes"], "expected a duration of at most 4s"),
    ] {
        let refusal = refused(&binary, arguments).await;
        assert!(refusal.contains(want), "{arguments:?}: {refusal}");
    }
    let checked = command(&binary, &["check", "--connect"]).await.stdout;
    assert!(checked.contains("function app.project_sales_1 exists"), "{checked}");
    stop(running).await;
}
