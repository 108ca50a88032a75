//! Pages that only show: the tail, the map, two attempts side by side, the handover note; and what looking costs.

use outboxd::operations::Role;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends the same request so many times at once, and gives the connections on which the answers come.
async fn begin(console: &Served, path: &str, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(&console.address).await.expect("the console listens");
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\r\n",
            console.address
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        streams.push(stream);
    }
    streams
}

/// Without sharing, three of the ten would hold all connections of the console, and nobody else would be answered.
#[tokio::test(flavor = "multi_thread")]
async fn ten_viewers_cost_the_database_what_one_costs() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let console = Served::relay(&database, &(tokens() + &webhook(&receiver))).await;
    dead_letters(&database, 1).await;
    let console = {
        console.stop().await;
        Served::alone(&database, &tokens()).await
    };
    for path in ["/dead-letters?handler=billing", "/api/v1/dead-letters/groups", "/handlers/billing", "/map"] {
        let mut writer = database.pool().begin().await.expect("a transaction");
        sqlx::query("lock table outbox.deliveries in access exclusive mode").execute(&mut *writer).await.expect("it is locked");
        let viewers = begin(&console, path, 10).await;
        let waiting = "pg_stat_activity where datname = current_database() and application_name = 'outboxd console' and wait_event_type = 'Lock'";
        eventually("somebody reads", || async { (database.count(waiting).await == 1).then_some(()) }).await;
        let other = console.bearer(ADMIN).get("/audit").await;
        assert_eq!((other.status, database.count(waiting).await), (200, 1), "{path}: {other:?}");
        writer.rollback().await.expect("it is unlocked");
        for mut viewer in viewers {
            let mut answer = String::new();
            viewer.read_to_string(&mut answer).await.expect("it answers and closes");
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("billing"), "{path}: {answer}");
        }
    }
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_shows_what_comes_and_the_map_where_it_goes() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let console = Served::relay(&database, &(tokens() + &webhook(&receiver))).await;
    let reader = console.bearer(READER);
    let empty = reader.get("/tail").await;
    assert!(empty.status == 200 && empty.body.contains("New events appear here"), "{}", empty.body);
    assert!(reader.get("/map").await.body.contains("No event is recorded"));
    dead_letters(&database, 2).await;
    database.insert_event(NewRow::new("invoice.sent").of("invoice", 7)).await;
    let path = "/tail?type=order.*&key=order%2F1";
    let tail = eventually("the tail shows it", || async {
        let tail = reader.get(path).await;
        tail.body.contains("order.placed").then_some(tail)
    })
    .await;
    assert!(tail.body.contains("data-live=\"2\"") && tail.body.contains("data-part=\"tail\""), "{}", tail.body);
    assert!(tail.body.contains("./tail?type=order.%2A&amp;key=order%2F1") && !tail.body.contains("invoice.sent"), "{}", tail.body);
    assert_eq!(tail.body.matches("<tr>").count(), 2, "the head and the one of this key: {}", tail.body);
    assert!(tail.body.contains("outboxd events list --type 'order.*' --key order/1"), "{}", tail.body);
    let map = eventually("the map shows both types", || async {
        let map = reader.get("/map").await;
        (map.body.contains("invoice.sent") && map.body.contains("2 dead letters")).then_some(map)
    })
    .await;
    assert!(map.body.contains("no handler wants it") && map.body.contains("handler=billing&amp;type=order.placed"), "{}", map.body);
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_attempts_are_compared_line_by_line() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let console = Served::relay(&database, &(tokens() + &webhook(&receiver))).await;
    let id = dead_letters(&database, 1).await[0];
    let path = format!("/e/{id}/billing");
    let reader = console.bearer(READER);
    assert!(!reader.get(&path).await.body.contains("Two attempts compared"), "there is one");
    sqlx::query(
        "insert into attempts (at, seq, subscription, attempt, duration_ms, status, ambiguous, outcome, reason, detail, instance)
         select now() - interval '1 hour' * n, e.seq, s.id, 3 - n, 100 * n, 500 + n, n = 1, 'retry', 'server_error',
                E'trouble\\nnumber ' || n, 'relay-' || n
           from generate_series(1, 2) n, events e, subscriptions s where e.id = $1 and s.handler = 'billing'",
    )
    .bind(id)
    .execute(database.pool())
    .await
    .expect("attempts");
    let last = reader.get(&path).await.body;
    assert!(last.contains("Two attempts compared") && last.contains("<mark>the receiver is on fire</mark>"), "{last}");
    let chosen = reader.get(&format!("{path}?one=1&other=2")).await.body;
    for part in [
        "1 h apart",
        "100 ms shorter",
        "trouble\n<mark>number 2</mark>",
        "<mark>number 1</mark>",
        "yes: no answer came back",
        "relay-2",
    ] {
        assert!(chosen.contains(part), "{part}: {chosen}");
    }
    let same = reader.get(&format!("{path}?one=2&other=2")).await.body;
    assert!(same.contains("Both had the same answer") && !same.contains("<mark>"), "{same}");
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_note_says_what_is_wrong_who_did_what_and_what_is_left_open() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let settings = tokens() + &webhook(&receiver) + "on_dead_letter = \"hold_key\"\n";
    let console = Served::relay(&database, &settings).await;
    dead_letters(&database, 2).await;
    database.insert_event(NewRow::new("order.paid").of("order", 1)).await;
    eventually("one waits", || async { (database.count("deliveries where state = 'waiting'").await == 1).then_some(()) }).await;
    let operator = console.bearer(OPERATOR);
    assert_eq!(operator.post("/handlers/billing/pause", &[("because", "they <move> until noon")]).await.status, 303);
    assert_eq!(operator.post("/handlers/billing/resume", &[]).await.status, 303);
    assert_eq!(operator.post("/handlers/billing/pause", &[("because", "still moving")]).await.status, 303);
    database
        .execute("insert into outbox.audit (at, actor, action) values (clock_timestamp() - interval '3 hours', 'bob', 'reload')")
        .await;
    database
        .execute(
            "insert into outbox.alerts (key, kind, subject, severity, status, started_at, last_seen_at, changed_at, revision, count, told_count, told_at, snoozed_until)
             values ('dead_letters/billing', 'dead_letters', 'billing', 'critical', 'firing', '2026-01-31T08:00:00Z', now(), now(), 1, 2, 2, now(),
                     now() + interval '1 hour')
                 on conflict (key) do update set snoozed_until = excluded.snoozed_until, status = 'firing', started_at = excluded.started_at",
        )
        .await;
    let reader = console.bearer(READER);
    let page = reader.get("/handover?hours=2").await.body;
    for part in [
        "still moving",
        "they &lt;move&gt; until noon",
        "2026-01-31 08:00:00 UTC",
        "silent until",
        "1 event waits",
        "order.placed",
        "the receiver is on fire",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("bob"), "that was before: {page}");
    assert!(reader.get("/handover?hours=4").await.body.contains("bob"));
    assert_eq!(reader.get("/handover?hours=0").await.status, 422);

    let note = console.binary.run(&["handover", "--hours", "2"]).await;
    assert_eq!(note.code, Some(0), "{note:?}");
    for part in ["WRONG NOW", "silent until", "2 of billing", "order/1 of billing: 1 event behind", "still moving", "operator"] {
        assert!(note.stdout.contains(part), "{part}: {}", note.stdout);
    }
    let told: Value =
        serde_json::from_str(&console.binary.run(&["handover", "--hours", "2", "--json"]).await.stdout).expect("a document");
    let served: Value = serde_json::from_str(&reader.get("/api/v1/handover?hours=2").await.body).expect("a document");
    let names = |document: &Value| document.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!((names(&told), &told["keys"]), (names(&served), &served["keys"]));
    let whys: Vec<&str> = told["acts"].as_array().expect("acts").iter().filter_map(|act| act["reason"].as_str()).collect();
    assert_eq!((whys, told["more_acts"].as_bool()), (vec!["still moving", "they <move> until noon"], Some(false)));
    console.stop().await;
}

#[tokio::test]
async fn a_command_prints_the_address_of_its_page() {
    let id = "7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d";
    let console = "[console]\nlisten = \"127.0.0.1:9189\"\npath = \"/outboxd\"\n";
    let binary =
        Binary::relay("postgres://nobody@127.0.0.1:1/nowhere", &format!("{console}{}", entry("ann", ADMIN, Role::Admin, true)));
    let front = "http://127.0.0.1:9189/outboxd/";
    for (words, want) in [
        (&["events", "show", id][..], format!("e/{id}")),
        (&["dead-letters", "show", id, "--handler", "a/b"], format!("e/{id}/a%2Fb")),
        (&["events", "list", "--type", "order.*"], "events?type=order.%2A".to_owned()),
        (
            &["dead-letters", "list", "--handler", "billing", "--since", "2h"],
            "dead-letters/list?handler=billing&since=2h".to_owned(),
        ),
        (&["dead-letters", "groups", "--text", "a b"], "dead-letters?text=a%20b".to_owned()),
        (&["handover", "--hours", "3"], "handover?hours=3".to_owned()),
    ] {
        let told = binary.run(&[words, &["--link"]].concat()).await;
        assert_eq!((told.code, told.stdout.trim_end()), (Some(0), format!("{front}{want}").as_str()), "{told:?}");
    }
    let off = Binary::relay("postgres://nobody@127.0.0.1:1/nowhere", "").run(&["events", "show", id, "--link"]).await;
    assert!(off.code == Some(64) && off.stderr.contains("set console.listen"), "{off:?}");
}
