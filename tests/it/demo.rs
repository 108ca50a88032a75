//! `outboxd demo`: shows what it promises, keeps it, and leaves nothing behind.

use std::path::Path;

use serde_json::Value;

use crate::support::{Binary, Finished, TestDatabase};

fn tally(finished: &Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{}\n{}", finished.stdout, finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
}

fn number(tally: &Value, name: &str) -> u64 {
    tally[name].as_u64().unwrap_or_else(|| panic!("no {name} in {tally}"))
}

fn assert_promise(tally: &Value) {
    let open = number(tally, "retrying") + number(tally, "waiting") + number(tally, "unread");
    assert_eq!(number(tally, "recorded"), number(tally, "delivered") + open + number(tally, "dead"), "{tally}");
    assert!(number(tally, "delivered") > 10 && number(tally, "rolled_back_transactions") > 0, "{tally}");
    assert_eq!((number(tally, "duplicates"), number(tally, "order_violations")), (0, 0), "{tally}");
    assert_eq!(tally["promise_held"], true);
}

/// Process and directory of the private server, as the demo names them.
fn private_server(told: &str) -> (u32, String) {
    let line = told.lines().find(|line| line.contains("runs on port")).unwrap_or_else(|| panic!("no server in {told}"));
    let pid = line.split("process ").nth(1).and_then(|rest| rest.split(',').next()).and_then(|pid| pid.parse().ok());
    let directory = line.rsplit(" in ").next().map(str::trim);
    (pid.expect("the line names the process"), directory.expect("the line names the directory").to_owned())
}

fn assert_gone((pid, directory): (u32, String)) {
    assert!(!Path::new(&directory).exists(), "{directory} is still there");
    // SAFETY: takes two numbers; signal 0 only asks.
    assert_ne!(unsafe { libc::kill(pid as libc::pid_t, 0) }, 0, "process {pid} still runs");
}

#[tokio::test]
async fn the_demo_keeps_its_promise_and_leaves_nothing_behind() {
    let finished = Binary::with_config("").run(&["demo", "--seconds", "6", "--fail-percent", "40", "--json"]).await;

    assert_promise(&tally(&finished));
    for told in ["recorded", "rolled back", "delivered", "retry in", "outage", "The promise held."] {
        assert!(finished.stderr.contains(told), "nothing about {told:?} in {}", finished.stderr);
    }
    assert!(!finished.stderr.contains('\x1b'), "colours without a terminal");
    assert_gone(private_server(&finished.stderr));
}

#[tokio::test]
async fn an_interrupted_demo_stops_gracefully() {
    let running = Binary::with_config("").spawn(&["demo", "--fail-percent", "0", "--show-config"]);
    running.wait_for_output("delivered").await;
    running.interrupt();
    let finished = running.finish().await;

    assert_eq!(finished.code, Some(0), "{}\n{}", finished.stdout, finished.stderr);
    assert!(finished.stdout.contains("The promise held.") && finished.stdout.contains("kind = \"webhook\""), "{}", finished.stdout);
    assert_gone(private_server(&finished.stdout));
}

#[tokio::test]
async fn on_a_given_server_the_demo_drops_what_it_made_and_nothing_else() {
    let database = TestDatabase::create().await;
    let finished = Binary::with_config("").run(&["demo", "--seconds", "6", "--json", "--database-url", database.url()]).await;

    assert_promise(&tally(&finished));
    assert_eq!(database.count("pg_namespace where nspname in ('outbox_demo', 'shop_demo')").await, 0);
    assert_eq!(database.count("pg_namespace where nspname = 'outbox'").await, 1);
    assert_eq!(database.count("outbox.events").await, 0);
}

#[tokio::test]
async fn a_schema_that_no_demo_made_is_left_alone() {
    let database = TestDatabase::empty().await;
    database.execute("create schema shop_demo; create table shop_demo.precious ()").await;
    let finished = Binary::with_config("").run(&["demo", "--seconds", "1", "--database-url", database.url()]).await;

    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("that no demo made"), "{}", finished.stderr);
    assert_eq!(database.count("shop_demo.precious").await, 0, "the table is still there");
}

#[tokio::test]
async fn without_any_postgres_the_demo_says_so() {
    let binary = Binary::with_config("").env("OUTBOXD_POSTGRES_BIN", "/does/not/exist");
    let finished = binary.run(&["demo", "--seconds", "1"]).await;

    assert_eq!(finished.code, Some(1), "{}", finished.stdout);
    assert!(finished.stderr.contains("/does/not/exist"), "{}", finished.stderr);
}
