//! An event that a projection cannot take: it stops that projection and nothing else, is seen everywhere, and is mended or skipped.

use serde_json::Value;

use super::{
    assert_equals_the_log, binary, command, database, doing, entry, id_of, listed, number, refused, row, stop, wait_for_events,
    wait_for_state, wait_until_in_the_present,
};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_event_stops_its_projection_alone_and_is_mended_or_skipped() {
    let database = database([1]).await;
    database.execute("create table app.other (event uuid); create function app.project_other(id uuid, type text, key text, payload jsonb, headers jsonb, occurred_at timestamptz, replaying boolean) returns void language sql as 'insert into app.other values (id)'").await;
    let other =
        "[[projections]]\nname = \"other\"\nversion = 1\nfunction = \"app.project_other\"\ntarget = \"app.other\"\n".to_owned();
    let binary = binary(&database, &[entry(1, ""), other]);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    let rows = (0..200).map(|n| match n {
        57 => doing("a", n, "select app.not_there_yet()"),
        120 => doing("b", n, "do $x$ begin raise exception 'never' using errcode = 'OX001'; end $x$"),
        _ => row(n % 5, n),
    });
    let events = database.insert_events(rows).await;

    // Everything before it is there, nothing behind it, and the other projection has all.
    let stopped = wait_for_state(&binary, 1, "stopped").await;
    assert_eq!(id_of(&stopped["stopped"]["event"]), events[57]);
    assert!(stopped["stopped"]["detail"].as_str().is_some_and(|detail| detail.contains("not_there_yet")), "{stopped}");
    assert_eq!((&stopped["handled"], &stopped["is_live"]), (&Value::from(57), &Value::from(true)));
    assert_eq!(number(&database, "select count(*) from app.applied").await, 57);
    eventually("the other projection has all", || async { (database.count("app.other").await == 200).then_some(()) }).await;
    let list = command(&binary, &["projections", "list"]).await.stdout;
    assert!(list.contains(&format!("sales@1 has stopped at event {} (order.placed)", events[57])), "{list}");
    // Status and alert know it as they know of every handler that cannot go on.
    eventually("the status says so", || async {
        let finished = binary.run(&["status", "--json"]).await;
        let text = finished.stdout;
        let is_told =
            text.contains(&events[57].to_string()) && text.contains("outboxd projections list") && finished.code == Some(2);
        is_told.then_some(())
    })
    .await;

    // Mended, it goes on by itself; the command only saves the wait.
    database.execute("create function app.not_there_yet() returns void language sql as ''").await;
    command(&binary, &["projections", "retry", "sales", "1"]).await;
    let stopped = eventually("it stands at the next one", || async {
        let one = listed(&binary, 1).await;
        (one["stopped"]["event"] == events[120].to_string()).then_some(one)
    })
    .await;
    assert_eq!(stopped["stopped"]["detail"], "never");
    let refusal = refused(&binary, &["projections", "skip", "sales", "1", &events[119].to_string(), "--yes"]).await;
    assert!(refusal.contains(&format!("sales@1 has stopped at event {}, not at {}", events[120], events[119])), "{refusal}");
    command(&binary, &["projections", "skip", "sales", "1", &events[120].to_string(), "--because", "OPS-311", "--yes"]).await;
    wait_for_events(&database, 1, 200).await;
    eventually("all is well again", || async { (binary.run(&["status"]).await.code == Some(0)).then_some(()) }).await;
    stop(running).await;
    assert_eq!(number(&database, "select count(*) from app.applied").await, 199);
    assert_eq!(number(&database, "select sum(total)::bigint from app.sales_1").await, (0..200).sum::<i64>() - 120);
    let noted = format!("projection_skips where event = '{}' and because = 'OPS-311' and detail = 'never'", events[120]);
    assert_eq!(database.count(&noted).await, 1);
    assert_eq!(database.count("audit where action = 'skip' and handler = 'sales@1'").await, 1);
}

/// Also while no relay runs, and where the first event of all is the poison.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_skipped_while_no_relay_runs() {
    let database = database([1]).await;
    let poison = database.insert_event(doing("a", 1, "select 1 / 0")).await;
    database.insert_events((2..5).map(|n| row("a", n))).await;
    let binary = binary(&database, &[entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_for_state(&binary, 1, "stopped").await;
    stop(running).await;
    assert_eq!(listed(&binary, 1).await["state"], "stopped", "it is known without a relay");
    command(&binary, &["projections", "skip", "sales", "1", &poison.to_string(), "--yes"]).await;
    let running = binary.spawn(&["run"]);
    wait_for_events(&database, 1, 4).await;
    stop(running).await;
    assert_eq!(number(&database, "select sum(total)::bigint from app.sales_1").await, 9);
}

/// Why versions are built: the live one stands, and the mended one takes its place exactly there.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_takes_the_place_of_one_that_stands() {
    let database = database([1, 2]).await;
    // Version 2 does not look at what the event asks for.
    database
        .execute("do $$ begin execute replace(pg_get_functiondef('app.project_sales_2'::regproc), 'payload ? ''does''', 'false'); end $$")
        .await;
    let binary = binary(&database, &[entry(1, "")]);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    database.insert_events((0..30).map(|n| if n == 17 { doing("a", n, "select 1 / 0") } else { row(n % 3, n) })).await;
    wait_for_state(&binary, 1, "stopped").await;

    binary.rewrite(&crate::support::Binary::relay_config(database.url(), &[entry(1, ""), entry(2, "")].concat()));
    command(&binary, &["reload"]).await;
    wait_for_state(&binary, 2, "ready").await;
    assert_eq!(listed(&binary, 2).await["handled"], 17, "it stands just before the event, too");
    command(&binary, &["projections", "switch", "sales", "2", "--yes"]).await;
    wait_for_events(&database, 2, 30).await;
    stop(running).await;
    assert_equals_the_log(&database, 2).await;
    assert_eq!(number(&database, "select count(*) from app.effects").await, 30);
    assert_eq!(number(&database, "select count(*) from app.effects where version = 1").await, 17);
}

/// What ends the session, takes too long or fails at the check of a deferred constraint is told of the event that does it.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_event_does_to_its_session_it_stops_there_and_all_others_take_effect_once() {
    let database = database([1]).await;
    database.execute("create table app.deferred (n int unique deferrable initially deferred)").await;
    let binary = binary(&database, &[entry(1, "statement_timeout = \"300ms\"")]);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    let poison = [
        "select pg_terminate_backend(pg_backend_pid())",
        "select pg_sleep(60)",
        "insert into app.deferred values (1), (1)",
        "do $x$ begin perform set_config('search_path', 'nowhere', false); raise exception 'lost'; end $x$",
    ];
    for (at, sql) in (0_i64..).zip(poison) {
        let rows = (0..20).map(|n| if n == 11 { doing("p", n, sql) } else { row(n % 3, n) });
        let events = database.insert_events(rows).await;
        let stopped = wait_for_state(&binary, 1, "stopped").await;
        assert_eq!(id_of(&stopped["stopped"]["event"]), events[11], "{sql}: {stopped}");
        command(&binary, &["projections", "skip", "sales", "1", &events[11].to_string(), "--yes"]).await;
        wait_for_events(&database, 1, (at + 1) * 20).await;
    }
    stop(running).await;
    assert_eq!(number(&database, "select count(*) from app.applied").await, 4 * 19);
    assert_eq!(number(&database, "select count(*) from app.effects").await, 4 * 19);
}
