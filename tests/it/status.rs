//! What a person at a shell learns of an outbox: `status`, `events` and `migrate`, through the built binary.
//! A long file, because the commands share one scene.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::support::{Answer, Binary, Finished, NewRow, Receiver, TestDatabase, eventually, own_server};

/// Every command of these tests gets its database by flag.
async fn outboxd(database: &TestDatabase, arguments: &[&str]) -> Finished {
    Binary::with_config("").run(&[arguments, &["--database-url", database.url()]].concat()).await
}

async fn status_json(database: &TestDatabase) -> (Option<i32>, Value) {
    let finished = outboxd(database, &["status", "--json"]).await;
    (finished.code, serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}")))
}

/// With the table of migrations, which `TestDatabase::create` leaves out and the commands look for.
async fn migrated() -> TestDatabase {
    let database = TestDatabase::empty().await;
    outboxd::store::migrate(database.pool(), "outbox", None).await.expect("the migrations apply");
    database
}

/// A live relay that owns a handler which has read everything up to now.
async fn healthy() -> TestDatabase {
    let database = migrated().await;
    database.execute("insert into instances (id, host, pid, version) values ('r1', 'db-host', 4711, '0.1.0')").await;
    subscribe(&database, "billing", 0, 1).await;
    database
}

async fn subscribe(database: &TestDatabase, handler: &str, partition: u16, partitions: u16) {
    database
        .execute(&format!(
            "insert into subscriptions (handler, partition, partitions, kind, snapshot, low_seq, high_seq, owner, lease_until)
             values ('{handler}', {partition}, {partitions}, 'webhook', pg_current_snapshot(), last_seq(), last_seq(),
                     'r1', clock_timestamp() + interval '1 hour')"
        ))
        .await;
}

async fn dead_letter(database: &TestDatabase) -> Uuid {
    let row = NewRow::new("order.placed").of("order", 42).payload(json!({"n": 1})).headers(json!({"tenant": "a"}));
    let id = database.insert_event(row).await;
    database
        .execute(
            "insert into deliveries (subscription, seq, state, attempts, handled_at, reason, status, detail, key)
             select s.id, e.seq, 'dead', 2, clock_timestamp(), 'client_error', 422, 'no such customer', 'order/42' from subscriptions s, events e;
             insert into attempts (seq, subscription, attempt, duration_ms, status, ambiguous, outcome, reason, detail)
             select e.seq, s.id, 1, 15000, null, true, 'retry', 'timeout', 'no answer' from subscriptions s, events e;
             insert into attempts (seq, subscription, attempt, duration_ms, status, outcome, reason, detail)
             select e.seq, s.id, 2, 12, 422, 'permanent', 'client_error', 'no such customer' from subscriptions s, events e;
             update subscriptions set snapshot = pg_current_snapshot()",
        )
        .await;
    id
}

#[tokio::test]
async fn a_healthy_outbox_is_ok() {
    let database = healthy().await;
    let finished = outboxd(&database, &["status"]).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    assert!(finished.stdout.starts_with("ok\n"), "{}", finished.stdout);
    for word in ["billing", "db-host/4711", "4711", "0.1.0"] {
        assert!(finished.stdout.contains(word), "{word}: {}", finished.stdout);
    }
}

#[tokio::test]
async fn dead_letters_are_a_warning_with_the_command_to_run() {
    let database = healthy().await;
    dead_letter(&database).await;
    let finished = outboxd(&database, &["status"]).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.starts_with("warning\n"), "{}", finished.stdout);
    assert!(
        finished.stdout.contains("billing: 1 dead letter\n  -> outboxd dead-letters list --handler billing"),
        "{}",
        finished.stdout
    );
    assert!(finished.stdout.contains("client_error (422) at 20"), "{}", finished.stdout);
}

#[tokio::test]
async fn a_handler_that_is_held_is_a_warning() {
    for (change, state, text) in [
        ("paused_at = clock_timestamp(), paused_by = 'ann', owner = null, lease_until = null", "paused", "paused by ann since"),
        ("circuit = 'open', circuit_since = clock_timestamp(), circuit_reason = 'unauthorized'", "circuit_open", ": unauthorized"),
    ] {
        let database = healthy().await;
        database.execute(&format!("update subscriptions set {change}")).await;
        let (code, status) = status_json(&database).await;
        assert_eq!((code, &status["level"], &status["handlers"][0]["state"]), (Some(1), &json!("warning"), &json!(state)));
        assert!(status["reasons"][0]["text"].as_str().is_some_and(|told| told.contains(text)), "{status:#}");
    }
}

/// A fault and a 429 spend no attempt and leave no row; what the receiver said is told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_spends_nothing_is_the_last_failure_as_well() {
    for (status, reason) in [(401, "unauthorized"), (429, "throttled"), (503, "server_error")] {
        let database = TestDatabase::create().await;
        let receiver = Receiver::answering(move |_| Answer::status(status).body("no tenant\u{7} of yours")).await;
        let running = Binary::relay(database.url(), &crate::blame::hook(&receiver.url())).spawn(&["run"]);
        database.insert_events((0..40).map(|n| NewRow::new("order.placed").of("order", n))).await;
        let told = eventually("the answer is told", || async {
            let (_, told) = status_json(&database).await;
            let failure = &told["handlers"][0]["last_failure"];
            (failure["reason"] == reason && failure["status"] == status).then_some(told)
        })
        .await;
        let failure = &told["handlers"][0]["last_failure"];
        assert!(failure["detail"].as_str().is_some_and(|detail| detail.contains("no tenant")), "{told:#}");
        assert!(failure["event"].is_string() && failure["at"].is_string(), "{told:#}");
        if status == 401 {
            let text = outboxd(&database, &["status"]).await.stdout;
            assert!(text.contains("its circuit is open") && text.contains("next probe in"), "{text}");
            assert!(text.contains("; the last answer: 401 ") && text.contains("no tenant"), "{text}");
            assert!(text.contains("-> outboxd handlers test shop"), "{text}");
        }
        running.terminate();
        running.finish().await;
    }
}

#[tokio::test]
async fn what_hides_events_is_critical_and_a_defence_that_is_off_a_warning() {
    for (change, code, text) in [
        ("create rule nothing as on insert to events do instead nothing", 2, "events may be passed over or lost: the rule nothing"),
        ("alter table events disable trigger refuse_truncate", 1, "a defence is off: the trigger refuse_truncate of outbox.events"),
    ] {
        let database = healthy().await;
        database.execute(change).await;
        let told = outboxd(&database, &["status"]).await;
        assert_eq!(told.code, Some(code), "{told:?}");
        assert!(told.stdout.contains(text) && told.stdout.contains("-> outboxd doctor"), "{}", told.stdout);
    }
}

#[tokio::test]
async fn a_handler_without_an_owner_is_critical_after_a_minute() {
    let database = healthy().await;
    for (seconds, want) in [(30, 0), (90, 2)] {
        let expired = format!("update subscriptions set lease_until = clock_timestamp() - interval '{seconds} seconds'");
        database.execute(&expired).await;
        assert_eq!(status_json(&database).await.0, Some(want), "{seconds}");
    }
}

#[tokio::test]
async fn an_outbox_without_relays_is_critical() {
    let database = healthy().await;
    database.execute("update instances set seen_at = clock_timestamp() - interval '5 minutes'").await;
    let (code, status) = status_json(&database).await;
    assert_eq!((code, &status["reasons"][0]["command"]), (Some(2), &json!("outboxd run")), "{status:#}");
}

#[tokio::test]
async fn what_is_not_finished_is_counted_once() {
    let database = migrated().await;
    database.execute("insert into instances (id, host, pid, version) values ('r1', 'db-host', 1, '0.1.0')").await;
    subscribe(&database, "split", 0, 2).await;
    subscribe(&database, "split", 1, 2).await;
    subscribe(&database, "orders", 0, 1).await;
    database.execute("update subscriptions set type_patterns = '{order.%}' where handler = 'orders'").await;
    let rows =
        ["order.placed", "order.paid", "invoice.sent", "order.shipped"].map(|event_type| NewRow::new(event_type).of("order", 1));
    database.insert_events(rows).await;
    database
        .execute(
            "update events set occurred_at = clock_timestamp() - interval '10 minutes' where type = 'order.paid';
             insert into deliveries (subscription, seq, state, attempts, due_at, key)
             select s.id, e.seq, case type when 'order.paid' then 'retrying'::delivery_state else 'waiting' end, 1, clock_timestamp(), 'k'
               from subscriptions s, events e where type in ('order.paid', 'order.shipped') and s.partition = 0",
        )
        .await;
    let (code, status) = status_json(&database).await;
    assert_eq!(code, Some(1), "{status:#}");
    let counts = |place: usize| {
        let handler = &status["handlers"][place];
        ["handler", "partitions", "pending", "pending_is_exact", "retrying", "waiting", "dead", "state"]
            .map(|name| handler[name].clone())
    };
    assert_eq!(
        counts(0).to_vec(),
        [json!("orders"), json!(1), json!(1), json!(true), json!(1), json!(1), json!(0), json!("lagging")]
    );
    assert_eq!(
        counts(1).to_vec(),
        [json!("split"), json!(2), json!(2), json!(true), json!(1), json!(1), json!(0), json!("lagging")]
    );
    let oldest = status["handlers"][0]["oldest_unfinished_seconds"].as_f64().expect("a number");
    assert!((600.0..700.0).contains(&oldest), "{oldest}");
}

/// The rest of a window counts, what was read of it does not, and neither does what a slow transaction hid is forgotten.
#[tokio::test]
async fn an_open_window_counts_from_where_it_was_left() {
    let database = healthy().await;
    let mut slow = database.pool().begin().await.expect("a transaction begins");
    slow.execute("insert into events (type, payload) values ('slow', '{}')").await.expect("well formed"); // seq 1
    database.execute("insert into events (type, payload) select 'bulk', '{}' from generate_series(1, 10)").await; // seq 2 to 11
    database
        .execute("update subscriptions set window_snapshot = pg_current_snapshot(), window_seq = 6, window_high_seq = last_seq()")
        .await;
    database.execute("insert into events (type, payload) values ('later', '{}')").await;
    assert_eq!(status_json(&database).await.1["handlers"][0]["pending"], 6); // 7 to 11, and the later one
    slow.commit().await.expect("the transaction commits");
    assert_eq!(status_json(&database).await.1["handlers"][0]["pending"], 7);
}

#[tokio::test]
async fn a_large_backlog_is_a_lower_bound() {
    let database = healthy().await;
    database.execute("insert into events (type, payload) select 'bulk', '{}' from generate_series(1, 10500)").await;
    let (_, status) = status_json(&database).await;
    assert_eq!((&status["handlers"][0]["pending"], &status["handlers"][0]["pending_is_exact"]), (&json!(10_000), &json!(false)));
    assert!(outboxd(&database, &["status"]).await.stdout.contains("10000+"));
}

#[tokio::test]
async fn no_statement_reads_the_whole_log() {
    let database = healthy().await;
    database
        .execute(
            "insert into events (type, aggregate_id, payload) select 'bulk', n::text, '{}' from generate_series(1, 60000) n;
             insert into deliveries (subscription, seq, state, attempts) select 1, seq, 'delivered', 1 from events;
             analyze events; analyze deliveries",
        )
        .await;
    let id: Uuid =
        sqlx::query_scalar("select id from events where seq = 777").fetch_one(database.pool()).await.expect("it is there");
    for (name, sql, parameters) in [
        (
            "read_handler_backlog",
            include_str!("../../src/store/sql/read_handler_backlog.sql"),
            "'billing', 10000, 100000".to_owned(),
        ),
        ("read_last_failure", include_str!("../../src/store/sql/read_last_failure.sql"), "'billing'".to_owned()),
        ("read_event", include_str!("../../src/store/sql/read_event.sql"), format!("'{id}', '{{}}'")),
        ("read_event_states", include_str!("../../src/store/sql/read_event_states.sql"), format!("'{id}', null")),
        ("list_events", include_str!("../../src/store/sql/list_events.sql"), "'none', null, 20, 100000, 60000, null".to_owned()),
        ("list_attempts", include_str!("../../src/store/sql/list_attempts.sql"), "777, 100, null".to_owned()),
    ] {
        let mut connection = database.pool().acquire().await.expect("a connection");
        let types = match name {
            "read_handler_backlog" => "(text, bigint, bigint)",
            "read_last_failure" => "(text)",
            "list_events" => "(text, text, bigint, bigint, bigint, text)",
            "list_attempts" => "(bigint, bigint, text)",
            "read_event" => "(uuid, text[])",
            "read_event_states" => "(uuid, text)",
            _ => "(uuid)",
        };
        let explain = format!("set plan_cache_mode = force_generic_plan; prepare looked {types} as {sql};");
        sqlx::raw_sql(AssertSqlSafe(explain)).execute(&mut *connection).await.expect(name);
        let explain = AssertSqlSafe(format!("explain execute looked ({parameters})"));
        let plan: Vec<String> = sqlx::query_scalar(explain).persistent(false).fetch_all(&mut *connection).await.expect(name);
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan on events") && !plan.contains("Seq Scan on deliveries"), "{name}:\n{plan}");
        connection.close().await.ok();
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_critical_and_says_why() {
    let unreachable = Binary::with_config("").run(&["status", "--database-url", "postgres://127.0.0.1:1/app"]).await;
    assert_eq!(unreachable.code, Some(2), "{unreachable:?}");
    assert!(unreachable.stdout.contains("could not connect to Postgres at 127.0.0.1:1/app"), "{}", unreachable.stdout);
    assert!(unreachable.stdout.contains("no server answers there; is it running"), "{}", unreachable.stdout);

    let database = TestDatabase::empty().await;
    let no_outbox = outboxd(&database, &["status"]).await;
    assert_eq!(no_outbox.code, Some(2), "{no_outbox:?}");
    assert!(no_outbox.stdout.contains("there is no outbox in schema \"outbox\"; run \"outboxd migrate\""), "{}", no_outbox.stdout);
}

#[tokio::test]
async fn a_wrong_password_is_told_as_that() {
    let server = own_server(&[]).await;
    let url = server.url("postgres");
    let hba = server.data_dir().join("pg_hba.conf");
    let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.expect("the server takes connections");
    admin.execute("create role app login password 'right'").await.expect("a role");
    std::fs::write(&hba, "host all all all scram-sha-256\nlocal all all trust\n").expect("the data is ours");
    admin.execute("select pg_reload_conf()").await.expect("a reload");
    let mut wrong = url::Url::parse(&url).expect("an address");
    wrong.set_username("app").expect("an address with a host");
    wrong.set_password(Some("hunter2")).expect("an address with a host");

    let wrong_password = async || {
        let finished = Binary::with_config("").run(&["status", "--json", "--database-url", wrong.as_str()]).await;
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(!finished.stdout.contains("hunter2") && !finished.stderr.contains("hunter2"), "{finished:?}");
        finished.stdout.contains("the password is wrong").then_some(())
    };
    // The server reads its file again when it gets to it.
    crate::support::eventually("the wrong password is told", wrong_password).await;
}

#[tokio::test]
async fn watching_ends_with_ctrl_c_and_the_last_exit_code() {
    let database = healthy().await;
    let running = Binary::with_config("").spawn(&["status", "--watch", "--database-url", database.url()]);
    running.wait_for_output("ok").await;
    dead_letter(&database).await;
    running.wait_for_output("1 dead letter").await;
    running.interrupt();
    let finished = running.finish().await;
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(1), ""), "{finished:?}");
}

#[tokio::test]
async fn an_event_is_shown_with_everything_that_became_of_it() {
    let database = healthy().await;
    let id = dead_letter(&database).await.to_string();
    subscribe(&database, "search", 0, 1).await;
    let page = outboxd(&database, &["events", "show", &id]).await;
    assert_eq!(page.code, Some(0), "{page:?}");
    for text in [
        id.as_str(),
        "order.placed",
        "order/42",
        "{\n  \"tenant\": \"a\"\n}",
        "{\n  \"n\": 1\n}",
        "billing",
        "dead",
        "client_error (422)",
        "no such customer",
        "search",
        "passed",
        "retry (ambiguous)",
        "timeout",
        "15000ms",
    ] {
        assert!(page.stdout.contains(text), "{text}:\n{}", page.stdout);
    }
    let json: Value =
        serde_json::from_str(&outboxd(&database, &["events", "show", &id, "--json"]).await.stdout).expect("valid JSON");
    assert_eq!((&json["handlers"][0]["state"], json["attempts"].as_array().map(Vec::len)), (&json!("dead"), Some(2)));
}

#[tokio::test]
async fn a_payload_is_shown_as_it_was_written() {
    let database = healthy().await;
    let long = "x".repeat(10_000);
    database
        .execute(&format!(
            "insert into events (type, payload) values ('a', '{{\"n\":123456789012345678901234567890.10,\"b\":1E400,\"a\":\"{long}\"}}')"
        ))
        .await;
    let id: Uuid = sqlx::query_scalar("select id from events").fetch_one(database.pool()).await.expect("it is there");
    let id = id.to_string();
    for (arguments, is_whole) in
        [(vec!["show", &id], false), (vec!["show", &id, "--full"], true), (vec!["show", &id, "--json"], true)]
    {
        let page = outboxd(&database, &[&["events"], arguments.as_slice()].concat()).await;
        assert!(page.stdout.contains("123456789012345678901234567890.10") && page.stdout.contains("1E400"), "{}", page.stdout);
        assert_eq!((page.stdout.contains(&long), page.stdout.contains("--full shows all")), (is_whole, !is_whole), "{arguments:?}");
    }
}

#[tokio::test]
async fn an_event_that_does_not_exist_is_an_error() {
    let database = healthy().await;
    let finished = outboxd(&database, &["events", "show", "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f"]).await;
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""));
    assert!(finished.stderr.contains("there is no event 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f"), "{}", finished.stderr);
}

#[tokio::test]
async fn events_are_listed_newest_first() {
    let database = healthy().await;
    let rows = [("order.placed", 1), ("order.paid", 2), ("invoice.sent", 1)];
    database.insert_events(rows.map(|(event_type, id)| NewRow::new(event_type).of("order", id))).await;
    for (arguments, want) in [
        (vec![], vec!["invoice.sent", "order.paid", "order.placed"]),
        (vec!["--type", "order.*"], vec!["order.paid", "order.placed"]),
        (vec!["--key", "order/1"], vec!["invoice.sent", "order.placed"]),
        (vec!["--key", "invoice/1"], vec![]),
        (vec!["--aggregate-id", "1"], vec!["invoice.sent", "order.placed"]),
        (vec!["--limit", "1"], vec!["invoice.sent"]),
        (vec!["--type", "order_placed"], vec![]),
    ] {
        let finished = outboxd(&database, &[&["events", "list", "--json"], arguments.as_slice()].concat()).await;
        let json: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        let types: Vec<_> = json["events"].as_array().expect("a list").iter().map(|event| event["type"].clone()).collect();
        assert_eq!(types, want, "{arguments:?}");
    }
    assert!(outboxd(&database, &["events", "list"]).await.stdout.contains("order/1"));
    let refused = outboxd(&database, &["events", "list", "--key", "1"]).await;
    assert!(refused.code == Some(64) && refused.stderr.contains("--aggregate-id 1"), "{refused:?}");
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let database = TestDatabase::empty().await;
    let first = outboxd(&database, &["migrate"]).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains("applied 0001_outbox"), "{}", first.stdout);
    let second = outboxd(&database, &["migrate", "--json"]).await;
    let json: Value = serde_json::from_str(&second.stdout).unwrap_or_else(|error| panic!("{error}: {second:?}"));
    assert_eq!(
        (second.code, &json["schema"], &json["applied"], &json["version"]),
        (Some(0), &json!("outbox"), &json!([]), &json!(10))
    );
}

#[tokio::test]
async fn migrating_by_address_keeps_the_bound_that_was_configured() {
    let database = TestDatabase::empty().await;
    let config = format!("[database]\nurl = \"{}\"\n[outbox]\nmax_payload = \"2MiB\"\n", database.url());
    let configured = Binary::with_config(&config).run(&["migrate"]).await;
    assert!(configured.stdout.contains("payloads may now have 2097152 bytes"), "{configured:?}");
    assert_eq!(outboxd(&database, &["migrate"]).await.code, Some(0));
    let bound: i32 = sqlx::query_scalar("select max_payload_bytes()").fetch_one(database.pool()).await.expect("a number");
    assert_eq!(bound, 2_097_152);
}

#[tokio::test]
async fn an_outbox_of_a_newer_version_is_refused() {
    let database = TestDatabase::empty().await;
    outboxd(&database, &["migrate"]).await;
    database.execute("insert into migrations (version, name, checksum) values (99, '0099_later', 'x')").await;
    let refused = outboxd(&database, &["migrate"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(75), ""), "{refused:?}");
    assert!(refused.stderr.contains("at version 99, this outboxd knows 10; upgrade outboxd"), "{}", refused.stderr);
    assert_eq!(outboxd(&database, &["status"]).await.code, Some(2));
}

#[tokio::test]
async fn the_printed_script_creates_the_same_outbox() {
    let config = "[database]\nurl = \"${NOT_SET_HERE}\"\n[outbox]\nschema = \"events_out\"\nmax_payload = \"64KiB\"\n";
    let printed = Binary::with_config(config).run(&["migrate", "--print"]).await;
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{printed:?}");
    let database = TestDatabase::empty().await;
    database.connect().await.execute(AssertSqlSafe(printed.stdout)).await.expect("the script applies");
    let again = outboxd(&database, &["migrate", "--json", "--schema", "events_out"]).await;
    let json: Value = serde_json::from_str(&again.stdout).unwrap_or_else(|error| panic!("{error}: {again:?}"));
    assert_eq!((&json["applied"], &json["edited"]), (&json!([]), &json!([])));
    let bound: i32 =
        sqlx::query_scalar("select events_out.max_payload_bytes()").fetch_one(database.pool()).await.expect("a number");
    assert_eq!(bound, 65_536);
}
