//! What comes from outside and is not as it should be: receivers that hang, flood, redirect, reset or answer garbage, a payload of
//! ten megabytes, event types of any characters, a database connection that breaks or falls silent in the middle. On the built
//! binary, and seen in the database: each is a recorded outcome, and nothing is lost.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{Executor, Row};

use crate::support::{Answer, Binary, NewRow, Proxy, Receiver, Running, TestDatabase, eventually};

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

fn webhook(name: &str, url: &str, more: &str) -> String {
    format!("[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}\"\negress = \"any\"\n{more}\n")
}

async fn stop(running: Running) {
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

/// Every attempt that failed, as `handler outcome reason ambiguous status`.
async fn attempts(database: &TestDatabase) -> BTreeSet<String> {
    let rows = sqlx::query(
        "select s.handler, a.outcome, a.reason, a.ambiguous, a.status from attempts a join subscriptions s on s.id = a.subscription",
    )
    .fetch_all(database.pool())
    .await
    .expect("the attempts can be read");
    let texts = rows.iter().map(|row| {
        let (handler, outcome, reason): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let ambiguous = if row.get(3) { " ambiguous" } else { "" };
        let status = row.get::<Option<i32>, _>(4).map(|status| format!(" {status}")).unwrap_or_default();
        format!("{handler}: {outcome} {reason}{ambiguous}{status}")
    });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_misbehaves_leaves_a_recorded_attempt_and_gets_the_event_when_it_behaves() {
    let database = TestDatabase::create().await;
    let garbage = Answer::Raw(b"\x00\x01SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec());
    let cut_off = Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec());
    let flood_of_headers =
        Answer::Raw([b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-flood: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(50_000)].concat());
    let answers = [
        ("hangs", Answer::Hang),
        ("resets", Answer::Reset),
        ("closes", Answer::Close),
        ("garbage", garbage),
        ("cut-off", cut_off),
        ("headers", flood_of_headers),
        ("error", Answer::status(500).body(vec![b'x'; 1 << 20])),
    ];
    let mut receivers = Vec::new();
    let mut handlers = String::new();
    for (name, answer) in answers {
        let receiver = Receiver::answering(move |_| answer.clone()).await;
        let more = "request_timeout = \"500ms\"\n[handlers.retry]\nbase = \"20ms\"\nmax_delay = \"20ms\"\nmax_attempts = 1000\n[handlers.circuit]\nfirst_probe = \"20ms\"\nmax_probe = \"20ms\"";
        handlers.push_str(&webhook(name, &receiver.url(), more));
        receivers.push(receiver);
    }
    let running = Binary::relay(database.url(), &handlers).spawn(&["run"]);
    let id = database.insert_event(NewRow::new("order.placed").of("order", 1).payload(json!({ "n": 1 }))).await;

    let expected: BTreeSet<String> = [
        "hangs: retry timeout ambiguous",
        "resets: retry connection_reset ambiguous",
        "closes: retry connection_reset ambiguous",
        "garbage: retry invalid_answer ambiguous",
        "cut-off: retry connection_reset ambiguous 200",
        "headers: retry invalid_answer ambiguous",
        "error: retry server_error 500",
    ]
    .map(str::to_owned)
    .into();
    running.wait_for_output("relay started").await;
    eventually("an attempt of each", || async {
        let seen = attempts(&database).await;
        let handlers: BTreeSet<&str> = seen.iter().filter_map(|text| text.split(':').next()).collect();
        (handlers.len() == receivers.len()).then_some(())
    })
    .await;
    let seen = attempts(&database).await;
    assert_eq!(seen, expected);
    // An excerpt, not the flood.
    let longest: i32 =
        sqlx::query_scalar("select max(octet_length(detail)) from attempts").fetch_one(database.pool()).await.expect("attempts");
    assert!(longest <= 16 * 1024, "{longest}");
    assert_eq!(database.count("deliveries where state in ('dead', 'delivered')").await, 0);

    for receiver in &receivers {
        receiver.answer_with(|_| Answer::ok());
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", receivers.len() as i64).await;
    for receiver in &receivers {
        assert!(receiver.received().iter().all(|request| request.id == id.to_string()));
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_floods_its_success_has_the_event_and_costs_no_memory() {
    let database = TestDatabase::create().await;
    let flooding = Receiver::answering(|_| Answer::Endless).await;
    let running = Binary::relay(database.url(), &webhook("floods", &flooding.url(), "")).spawn(&["run"]);
    database.insert_events((0..20).map(|n| NewRow::new("order.placed").of("order", n))).await;

    wait_for_rows(&database, "deliveries where state = 'delivered'", 20).await;

    assert_eq!(flooding.received().len(), 20);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_redirects_is_not_followed_and_its_events_are_held() {
    let database = TestDatabase::create().await;
    let elsewhere = Receiver::start().await;
    let target = elsewhere.url();
    let redirecting = Receiver::answering(move |_| Answer::status(307).header("location", &target)).await;
    let more = "[handlers.circuit]\nfirst_probe = \"50ms\"\nmax_probe = \"50ms\"";
    let running = Binary::relay(database.url(), &webhook("moved", &redirecting.url(), more)).spawn(&["run"]);
    database.insert_events((0..5).map(|n| NewRow::new("order.placed").of("order", n))).await;

    let held = "subscriptions where circuit <> 'closed' and circuit_reason = 'redirected'";
    eventually("the circuit is open and says why", || async { (database.count(held).await == 1).then_some(()) }).await;
    redirecting.wait_for(3).await;
    assert_eq!(database.count("deliveries").await + database.count("attempts").await, 0, "nothing is spent");
    assert_eq!(elsewhere.received().len(), 0);

    redirecting.answer_with(|_| Answer::ok());
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 5).await;
    stop(running).await;
}

/// The configured bounds, each raised; the memory of the relay is smaller than two such events.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_ten_megabytes_arrives_byte_for_byte_when_the_bounds_allow_it_and_is_refused_when_not() {
    const SIZE: usize = 10 << 20;
    let database = TestDatabase::create().await;
    let receiver = Receiver::start().await;
    let payload = format!("{{\"n\": 9007199254740993,  \"text\": \"{}\"}}", "äx".repeat(SIZE / 3));
    let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('big', 'order', '1', $1::json)";

    let refusal =
        sqlx::query(insert).bind(&payload).execute(database.pool()).await.expect_err("it is above the default bound").to_string();
    assert!(refusal.contains("1048576 are allowed"), "{refusal}");

    let text = format!(
        "[database]\nurl = \"{}\"\n[outbox]\nmax_payload = \"16MiB\"\n[http]\nlisten = \"\"\n[relay]\nmemory = \"16MiB\"\nlease = \"3s\"\n{}{}",
        database.url(),
        webhook("large", &receiver.url(), "max_payload = \"16MiB\""),
        webhook("small", &receiver.url(), ""),
    );
    let running = Binary::with_config(&text).spawn(&["run"]);
    running.wait_for_output("relay started").await;
    for _ in 0..4 {
        sqlx::query(insert).bind(&payload).execute(database.pool()).await.expect("the bound is raised");
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", 4).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'too_large'", 4).await;

    let received = receiver.received();
    assert_eq!(received.len(), 4, "the handler with the small bound sends nothing");
    assert!(received.iter().all(|request| request.body() == payload.as_bytes()));
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_types_of_any_characters_arrive_and_are_told_as_they_are() {
    let database = TestDatabase::create().await;
    let (binary_events, structured, picky) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let handlers = [
        webhook("binary", &binary_events.url(), "format = \"cloudevents-binary\""),
        webhook("structured", &structured.url(), "format = \"cloudevents-structured\""),
        // A pattern of the configuration: "*" is any text, "%" and "_" and "\" are themselves.
        webhook("picky", &picky.url(), "events = ['100%_\\*']"),
    ];
    let binary = Binary::relay(database.url(), &handlers.concat());
    let running = binary.spawn(&["run"]);
    let types = [
        "Bestellung.geändert",
        "注文/作成 済み",
        "a \"quoted\" % \\ type",
        "line\nbreak\tand \u{1}",
        "100%_\\o'clock; drop table events --",
        "1001_\\x",
        "\u{202e}x🦀",
    ];
    let mut ids = Vec::new();
    for event_type in types {
        ids.push(database.insert_event(NewRow::new(event_type).of("order", 1)).await);
    }

    wait_for_rows(&database, "deliveries where state = 'delivered'", 15).await;
    let seen: Vec<String> =
        structured.received().iter().map(|request| request.json()["type"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(seen, types);
    let headers: Vec<String> =
        binary_events.received().iter().map(|request| request.header("ce-type").expect("there").to_owned()).collect();
    assert_eq!(headers[2], "a%20%22quoted%22%20%25%20\\%20type");
    assert_eq!(headers[3], "line%0Abreak%09and%20%01");
    assert_eq!(picky.received().iter().map(|request| request.id.clone()).collect::<Vec<_>>(), [ids[4].to_string()]);
    for (event_type, id) in types.iter().zip(&ids) {
        let shown = binary.run(&["events", "show", &id.to_string(), "--json"]).await;
        let shown: serde_json::Value =
            serde_json::from_str(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", shown.stdout, shown.stderr));
        assert!(shown.to_string().contains(&serde_json::to_string(event_type).expect("JSON")), "{shown}");
        let page = binary.run(&["events", "show", &id.to_string()]).await;
        assert!(!page.stdout.contains(['\u{1}', '\u{202e}']), "a terminal would obey it: {:?}", page.stdout);
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_the_schema_ends_the_relay_with_the_command_that_makes_it() {
    let database = TestDatabase::empty().await;
    let handlers = "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n";

    let finished = Binary::relay(database.url(), handlers).run(&["run", "--no-migrate"]).await;

    assert_eq!(finished.code, Some(75), "{}", finished.stderr);
    assert!(finished.stderr.contains("outboxd migrate"), "{}", finished.stderr);
}

// ---- the database's connection

/// A relay behind a proxy, whose handler is a receiver; the address of the proxy is all it knows.
async fn behind_proxy(database: &TestDatabase, receiver: &Receiver, more: &str) -> (Proxy, Running) {
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let text = format!(
        "[database]\nurl = \"{url}\"\nconnect_timeout = \"1s\"\nlock_timeout = \"0s\"\nstatement_timeout = \"2s\"\n[http]\nlisten = \"\"\n\
         [relay]\nlease = \"3s\"\nflush_interval = \"20ms\"\n{}",
        webhook("hook", &receiver.url(), more)
    );
    let running = Binary::with_config(&text).spawn(&["run"]);
    wait_for_rows(database, "subscriptions where owner is not null", 1).await;
    (proxy, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_the_middle_of_a_flush_costs_duplicates_of_one_flush_and_no_event() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let (proxy, running) = behind_proxy(&database, &receiver, "").await;
    database.insert_events((0..50).map(|n| NewRow::new("order.placed").of("order", n % 7).payload(json!({ "n": n })))).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 50).await;

    // The flush is under way, and held where it writes the outcomes.
    let mut gate = database.connect().await;
    gate.execute("begin; lock table outbox.deliveries in share mode").await.expect("locked");
    let ids =
        database.insert_events((50..80).map(|n| NewRow::new("order.placed").of("order", n % 7).payload(json!({ "n": n })))).await;
    receiver.wait_for_ids(80).await;
    let in_flush =
        "pg_stat_activity where datname = current_database() and application_name = 'outboxd relay' and wait_event_type = 'Lock'";
    wait_for_rows(&database, in_flush, 1).await;
    proxy.cut();
    // Its end of the connection dies with it; the statement that waits would go on otherwise, and nobody would hear its result.
    database.execute(&format!("select pg_terminate_backend(pid) from {in_flush}")).await;
    running.wait_for_output("could not").await;
    gate.execute("rollback").await.expect("unlocked");
    // What was in the middle has no effect, whole or half.
    wait_for_rows(&database, in_flush, 0).await;
    assert_eq!(database.count("deliveries").await, 50);

    proxy.heal();
    wait_for_rows(&database, "deliveries where state = 'delivered'", 80).await;
    let received = receiver.received();
    let again: BTreeSet<&str> = received.iter().filter(|request| request.attempt > 1).map(|request| request.id.as_str()).collect();
    let unflushed: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert!(again.iter().all(|id| unflushed.contains(*id)), "only what that flush would have recorded is repeated");
    assert!(received.len() <= 80 + 30, "{}", received.len());
    assert_eq!(received.iter().map(|request| &request.id).collect::<BTreeSet<_>>().len(), 80);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_found_and_left() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let (proxy, running) = behind_proxy(&database, &receiver, "").await;
    let mut expected = 0;
    for round in 0..2 {
        database.insert_events((0..20).map(|n| NewRow::new("order.placed").of("order", n % 3).payload(json!({ "n": n })))).await;
        expected += 20;
        wait_for_rows(&database, "deliveries where state = 'delivered'", expected).await;

        // Neither end is told; new connections work.
        proxy.forget();
        database
            .insert_events(
                (0..20).map(|n| NewRow::new("order.placed").of("order", n % 3).payload(json!({ "n": n, "round": round }))),
            )
            .await;
        expected += 20;
        wait_for_rows(&database, "deliveries where state = 'delivered'", expected).await;
    }
    stop(running).await;
}
