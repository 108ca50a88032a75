//! Events whose bytes a fault of the disk has taken, wherever a handler meets them: read for the first time, retried, waiting behind their
//! key, replayed, called in a function. Each is a dead letter that says why; nothing else is held up, sent twice or lost.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{outcomes, stop, wait_for_rows};
use crate::support::{Answer, Binary, Brittle, Receiver, TestDatabase};

const DEAD: &str = "deliveries where state = 'dead' and reason = 'unreadable' and detail like '%missing chunk%XX001%'";

fn handlers(url: &str) -> String {
    let retry = "retry = { schedule = [\"1s\"], max_attempts = 99 }\ncircuit = { minimum = 1000 }\n";
    format!(
        "[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nstart = \"beginning\"\nurl = \"{url}\"\negress = \"any\"\n{retry}
         [[handlers]]\nname = \"books\"\nkind = \"sql\"\nstart = \"beginning\"\nfunction = \"app.enter\"\n{retry}
         [[handlers]]\nname = \"parts\"\nkind = \"discard\"\nstart = \"beginning\"\nkey = \"payload:n\"\npartitions = 2\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_damaged_is_a_dead_letter_wherever_it_is_met_and_holds_up_nobody() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "create schema app;
             create table app.entries (n integer not null);
             create table app.closed ();
             create function app.enter(id uuid, type text, key text, payload json, headers jsonb) returns void language plpgsql as $$
             begin
                 if exists (select from pg_class where relname = 'closed') then raise exception 'not yet'; end if;
                 insert into app.entries values ((payload ->> 'n')::integer);
             end $$",
        )
        .await;
    let is_down = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let answering = std::sync::Arc::clone(&is_down);
    let receiver = Receiver::answering(move |_| match answering.load(std::sync::atomic::Ordering::SeqCst) {
        true => Answer::status(500),
        false => Answer::ok(),
    })
    .await;
    let binary = Binary::relay(database.url(), &handlers(&receiver.url()));
    let running = binary.spawn(&["run"]);
    let mut events = Vec::new();
    for n in 0..16 {
        events.push(Brittle::insert(&database, n, &format!("{}", n % 8), json!({})).await);
    }
    wait_for_rows(&database, "deliveries where state = 'retrying' and attempts > 1", 2 * 8).await;
    wait_for_rows(&database, "deliveries where state = 'waiting'", 2 * 8).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 16).await;
    stop(running).await;

    // Of two keys the head, of two what waits behind it, of one both; and of what was not read yet two next to one another.
    for n in 16..24 {
        events.push(Brittle::insert(&database, n, &format!("new-{n}"), json!({})).await);
    }
    let damaged = [0, 1, 10, 11, 4, 12, 18, 19];
    for n in damaged {
        events[n].lose_payload(&database).await;
    }
    database.execute("drop table app.closed").await;
    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    let before = receiver.received().len();
    let running = binary.spawn(&["run"]);
    // `parts` was through with the first sixteen.
    let dead = 2 * damaged.len() as i64 + 2;
    wait_for_rows(&database, DEAD, dead).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 3 * 24 - dead).await;
    let healthy: BTreeSet<Uuid> = (0..24).filter(|n| !damaged.contains(n)).map(|n| events[n].id).collect();
    for name in ["hook", "books"] {
        let seen = outcomes(&database, name).await;
        for (n, event) in events.iter().enumerate() {
            let (state, reason) = (seen[&event.id].0.as_str(), seen[&event.id].1.as_deref());
            assert_eq!(state, if damaged.contains(&n) { "dead" } else { "delivered" }, "{name}: event {n}");
            assert_eq!(reason == Some("unreadable"), damaged.contains(&n), "{name}: event {n}");
        }
    }
    let sent: Vec<Uuid> = receiver.received()[before..].iter().map(|request| request.id.parse().expect("an id")).collect();
    assert_eq!((sent.len(), sent.into_iter().collect::<BTreeSet<_>>()), (healthy.len(), healthy), "once each");
    let entries: Vec<i32> =
        sqlx::query_scalar("select n from app.entries order by n").fetch_all(database.pool()).await.expect("the entries");
    let want: Vec<i32> = (0..24).filter(|n| !damaged.contains(n)).map(|n| i32::try_from(n).expect("small")).collect();
    assert_eq!(entries, want);

    // Whoever replays it learns that nothing has changed, and a replay of everything comes to its end.
    let replayed = binary.run(&["replay", "--all", "--yes"]).await;
    assert_eq!(replayed.code, Some(1), "{} {}", replayed.stdout, replayed.stderr);
    wait_for_rows(&database, DEAD, dead).await;
    wait_for_rows(&database, "replays where state = 'running'", 0).await;
    stop(running).await;
}

/// What people look at: everything that can be told of it is, and what stands beside it can be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_look_at_what_is_left_of_a_damaged_event() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let mut events = Vec::new();
    for n in 0..6 {
        events.push(Brittle::insert(&database, n, &n.to_string(), json!({})).await);
    }
    events[2].lose_payload(&database).await;
    events[3].lose_headers(&database).await;
    let handler = format!(
        "[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nstart = \"beginning\"\nurl = \"{}\"\negress = \"any\"\n",
        receiver.url()
    );
    let binary = Binary::relay(database.url(), &handler);
    let running = binary.spawn(&["run"]);
    wait_for_rows(&database, DEAD, 2).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 4).await;
    for (n, event) in events.iter().enumerate() {
        let id = event.id.to_string();
        for arguments in [vec!["events", "show", &id], vec!["--json", "events", "show", &id], vec!["dead-letters", "show", &id]] {
            let shown = binary.run(&arguments).await;
            assert_eq!(shown.code, Some(0), "{arguments:?}: {}", shown.stderr);
            assert!(shown.stdout.contains(&id), "{arguments:?}: {}", shown.stdout);
            let is_told = shown.stdout.contains("cannot be read") || shown.stdout.contains("\"damage\"");
            assert_eq!(is_told, n == 2 || n == 3, "{arguments:?}: {}", shown.stdout);
        }
    }
    for arguments in
        [&["events", "list"][..], &["dead-letters", "list"], &["dead-letters", "groups"], &["verify"], &["feed", "status"]]
    {
        let finished = binary.run(arguments).await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {} {}", finished.stdout, finished.stderr);
    }
    let exported = binary.run(&["dead-letters", "export"]).await;
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let letters: Vec<Value> = exported.stdout.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
    assert_eq!(letters.len(), 2, "{}", exported.stderr);
    for (letter, event, left) in [(&letters[0], &events[2], "headers"), (&letters[1], &events[3], "payload")] {
        assert_eq!(letter["id"], event.id.to_string());
        assert!(letter["damage"].as_str().expect("it is told").contains("XX001"), "{letter}");
        let read: Vec<&str> = ["headers", "payload"].into_iter().filter(|part| !letter[*part].is_null()).collect();
        assert_eq!(read, [left], "what can be read is there");
    }

    // What is left of it can be erased, and afterwards nothing is damaged.
    for event in [&events[2], &events[3]] {
        let erased = binary.run(&["events", "erase", "--id", &event.id.to_string(), "--because", "a test", "--yes"]).await;
        assert_eq!(erased.code, Some(0), "{} {}", erased.stdout, erased.stderr);
    }
    assert_eq!(database.count("events where payload::text = '' or headers = 'null'").await, 0, "every value can be read");
    stop(running).await;
}
