//! `outboxd demo`: shows what it promises, keeps it, and leaves nothing behind.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::feed::ask;
use crate::support::{Binary, Finished, TestDatabase, find_program};

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

#[tokio::test]
async fn the_page_of_the_demo_shows_the_feed_in_a_real_browser_and_goes_on_after_a_reload() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("target/clients/browser/node_modules");
    let Some(node) = find_program(&["node"], &["--version"]).await else { return };
    let Some(chromium) = find_program(&["/usr/bin/chromium", "chromium"], &["--version"]).await else { return };
    let Some(_) = find_program(&["test"], &["-d", &modules.join("playwright-core").to_string_lossy()]).await else { return };
    let running = Binary::with_config("").spawn(&["demo", "--fail-percent", "0"]);
    let line = running.wait_for_output("shows the feed live").await;
    let page = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned();
    let lines = running.wait_for_output("Accept: text/event-stream").await;
    assert!(lines.contains("curl -N"), "{lines}");
    let output = Command::new(node)
        .arg(root.join("tests/it/demo/page.cjs"))
        .args([&page, &*chromium.to_string_lossy()])
        .env("NODE_PATH", &modules)
        .output()
        .await
        .expect("node runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}{}", running.stdout());
    let seen: Value = serde_json::from_str(&out).expect("an object");
    assert_eq!((&seen["state"], &seen["others"], &seen["refused"]), (&json!("live"), &json!([]), &json!(true)), "{seen}");
    assert!(seen["violations"].as_u64().is_some_and(|count| count >= 1), "the policy says what it refused: {seen}");
    assert!(seen["type"].as_str().is_some_and(|name| name.starts_with("order.")), "{seen}");
    assert!(seen["policy"].as_str().is_some_and(|policy| policy.starts_with("default-src 'none'; script-src 'self'")), "{seen}");
    // The newest first; after the reload only what comes behind it.
    let cursors = |name: &str| -> Vec<String> { serde_json::from_value(seen[name].clone()).expect("texts") };
    let (before, after) = (cursors("before"), cursors("after"));
    assert!(before.iter().zip(&before[1..]).all(|(newer, older)| newer > older), "{seen}");
    assert!(after.iter().all(|cursor| *cursor > before[0]), "nothing is shown twice: {seen}");

    // The ticket is for this page only, and the token is not in it.
    let address = page.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let html = ask(&address, "/", &[]).await.expect("answered");
    assert!(html.status == 200 && !html.body.contains("Bearer") && !html.body.contains("<script>"), "{html:?}");
    let mut elsewhere = TcpStream::connect(&address).await.expect("it listens");
    elsewhere.write_all(b"POST /ticket HTTP/1.1\r\nhost: elsewhere.example\r\nconnection: close\r\n\r\n").await.expect("it reads");
    let mut answer = String::new();
    elsewhere.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    running.interrupt();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stdout);
}
