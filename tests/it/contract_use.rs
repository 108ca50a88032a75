//! The use of contracts: counted from what handlers and clients were really sent, shown, and asked before a version is retired.

use std::path::Path;

use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::contracts::copy;
use crate::feed::{Served, ask, wait_for_places};
use crate::hub::raw::{Polling, SUBSCRIBE};
use crate::support::{Answer, Binary, Finished, Receiver, TestDatabase, eventually};

const OLD: &str = r#"{"id": "o-1", "total": "12.50", "status": "new"}"#;
const NEW: &str = r#"{"order_id": "o-2", "total_cents": 99, "currency": "CHF", "status": "settled"}"#;
/// Version 2 knows no status "lost": the cast does not list it.
const LOST: &str = r#"{"id": "o-3", "total": "1.00", "status": "lost"}"#;
const TOKEN: &str = "token-of-acme-0123456789";
const CLIENTS: &str = "[feed]\nevents = [\"order.*\"]\nlisten = \"127.0.0.1:0\"\n\
    [[clients]]\nname = \"acme\"\ntokens = [\"token-of-acme-0123456789\"]\nevents = [\"order.placed@1\"]\n\
    [[clients]]\nname = \"asleep\"\ntokens = [\"token-of-asleep-01234567\"]\nevents = [\"order.placed@1\"]\n";

fn handler(name: &str, receiver: &Receiver, version: u32) -> String {
    format!(
        "[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nstart = \"beginning\"\n\
         events = [\"order.placed@{version}\"]\n",
        receiver.url()
    )
}

fn config(entries: &[String]) -> String {
    format!("[contracts]\npath = \"contracts\"\n{}", entries.concat())
}

/// With the contracts of the example beside it, whose version 1 ended on this day.
fn with_contracts(binary: Binary, sunset: &str) -> Binary {
    let folder = binary.directory().join("contracts");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/contracts"), &folder);
    set_sunset(&binary, "2026-12-31", sunset);
    binary
}

fn set_sunset(binary: &Binary, from: &str, to: &str) {
    change(binary, &format!("sunset = \"{from}\""), &format!("sunset = \"{to}\""));
}

fn change(binary: &Binary, from: &str, to: &str) {
    let file = binary.directory().join("contracts/orders.toml");
    let text = std::fs::read_to_string(&file).expect("the contracts");
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).expect("the directory is ours");
}

async fn record(database: &TestDatabase, payload: &str, version: u32) {
    let sql = format!(
        "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers) \
         values ('order.placed', 'order', '1', '{payload}', '{{\"version\":{version}}}')"
    );
    sqlx::query(AssertSqlSafe(sql)).execute(database.pool()).await.expect("an event");
}

/// Version, receiver and count of each row.
async fn used(database: &TestDatabase) -> Vec<String> {
    let sql = "select version || ' ' || receiver || ' ' || events from outbox.contract_use order by version, receiver";
    sqlx::query_scalar(sql).fetch_all(database.pool()).await.expect("the counts")
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

fn rules(told: &Value) -> Vec<&str> {
    told["objections"].as_array().expect("a list").iter().filter_map(|objection| objection["rule"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_handlers_and_clients_were_really_sent_is_counted_at_once_and_at_the_stop() {
    let (database, old, new) = (TestDatabase::create().await, Receiver::start().await, Receiver::start().await);
    database
        .execute(
            "create schema app; create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void \
             language sql as $$ select $$",
        )
        .await;
    let stock = "[[handlers]]\nname = \"stock\"\nkind = \"sql\"\nfunction = \"app.take\"\nstart = \"beginning\"\nevents = [\"order.placed@2\"]\n";
    let entries = [handler("old", &old, 1), handler("new", &new, 2), stock.to_owned(), CLIENTS.to_owned()];
    let binary = with_contracts(Binary::relay(database.url(), &config(&entries)), "2026-12-31");
    let served = Served::of(&binary).await;
    assert_eq!(used(&database).await, [""; 0], "being configured is no use");

    record(&database, OLD, 1).await;
    eventually("the first use is written without waiting for a minute", || async {
        (used(&database).await == ["1 handler:old 1", "2 handler:new 1", "2 handler:stock 1"]).then_some(())
    })
    .await;
    // Neither a receiver that refuses nor an event without a valid form is a use.
    new.answer_with(|_| Answer::status(422));
    record(&database, NEW, 2).await;
    record(&database, LOST, 1).await;
    old.wait_for(3).await;
    eventually("version 2 has its dead letters", || async {
        (database.count("deliveries where state = 'dead'").await == 3).then_some(())
    })
    .await;
    let bearer = format!("Bearer {TOKEN}");
    let page = async |tag: &str| {
        let headers = [("authorization", bearer.as_str()), ("if-none-match", tag)];
        ask(&served.address, "/v1/feed", &headers).await.expect("the feed answers")
    };
    wait_for_places(&database, 3).await;
    let first = page("\"none\"").await;
    assert_eq!((first.status, first.ids().len()), (200, 3), "{}", first.body);
    assert_eq!(page(first.header("etag").expect("a tag")).await.status, 304, "the same page again is no use");
    eventually("what the client was sent is written, too", || async {
        used(&database).await.iter().any(|row| row.starts_with("1 client:acme ")).then_some(())
    })
    .await;
    served.stop().await;
    let want = ["1 client:acme 3", "1 handler:old 3", "2 handler:new 1", "2 handler:stock 2"];
    assert_eq!(used(&database).await, want, "the stop writes what is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_retired_only_when_nobody_reads_it_and_the_silent_are_named() {
    let (database, old, new) = (TestDatabase::create().await, Receiver::start().await, Receiver::start().await);
    let entries = [handler("old", &old, 1), handler("new", &new, 2), CLIENTS.to_owned()];
    let binary = with_contracts(Binary::relay(database.url(), &config(&entries)), "9999-12-31");
    let relay = binary.spawn(&["run"]);
    record(&database, OLD, 1).await;
    eventually("both are counted", || async { (used(&database).await.len() == 2).then_some(()) }).await;
    let retire = async |more: &[&str]| binary.run(&[&["contracts", "retire", "order.placed@1"], more].concat()).await;

    let refused = retire(&["--json"]).await;
    let told = json(&refused);
    assert_eq!((refused.code, &told["may_retire"], told["changes"].as_array().map(Vec::len)), (Some(1), &false.into(), Some(0)));
    assert_eq!(rules(&told), ["sunset_ahead", "counted_too_short", "read"], "{told}");
    let read = retire(&[]).await;
    assert!(read.stdout.contains("old reads it: 1 events since "), "{read:?}");
    assert!(read.stdout.contains("pinned to it, without an event\n  acme (client): no event since counting began at "), "{read:?}");

    // A month later: the sunset is past, and only version 2 was sent.
    database.execute("update migrations set applied_at = now() - interval '90 days' where name like '%contract_use'").await;
    database
        .execute("update contract_use set first_at = first_at - interval '40 days', last_at = last_at - interval '40 days'")
        .await;
    set_sunset(&binary, "9999-12-31", "2026-03-02");
    let silent = json(&retire(&["--json"]).await);
    assert_eq!(rules(&silent), ["nothing_sent"], "version 2 was not sent either: {silent}");
    database.execute("update contract_use set last_at = now() where version = 2").await;
    let allowed = retire(&[]).await;
    assert_eq!(allowed.code, Some(0), "{allowed:?}");
    for want in [
        "order.placed@1 may be retired\n",
        "  old: last sent at ",
        "[[handlers]] name = \"old\"\n    in events, pin \"order.placed@2\" in place of \"order.placed@1\"\n",
        "[[clients]] name = \"asleep\"\n",
        "[[contracts.versions]] version = 1\n    state = \"retired\"",
        "outboxd --config outboxd.toml check",
    ] {
        assert!(allowed.stdout.contains(want), "{want}: {}", allowed.stdout);
    }
    let listed = binary.run(&["contracts", "list", "--use"]).await;
    assert!(listed.stdout.contains("LAST SENT") && listed.stdout.contains("40d ago"), "{listed:?}");
    let shown = json(&binary.run(&["contracts", "show", "order.placed@1", "--use", "--json"]).await);
    assert_eq!((&shown["use"][0]["receiver"], &shown["use"][0]["events"]), (&"handler:old".into(), &1.into()), "{shown}");

    // Read again after its sunset: the doctor tells.
    database.execute("update contract_use set last_at = now() where version = 1").await;
    assert_eq!(rules(&json(&retire(&["--json"]).await)), ["read"]);
    let examined = binary.run(&["doctor"]).await;
    assert!(
        examined
            .stdout
            .contains("warning [contracts] order.placed@1 is past its sunset, 2026-03-02, and is still read by handler:old"),
        "{examined:?}"
    );

    // What the command asks for is what a configuration needs.
    database.execute("update contract_use set last_at = now() - interval '31 days' where version = 1").await;
    assert_eq!(retire(&[]).await.code, Some(0));
    change(&binary, "deprecated = {", "state = \"retired\"\ndeprecated = {");
    let early = binary.run(&["check"]).await;
    assert!(early.code == Some(64) && early.stderr.contains("the version is retired, and is not sent"), "{early:?}");
    let text = Binary::relay_config(database.url(), &config(&entries)).replace("order.placed@1", "order.placed@2");
    binary.rewrite(&text);
    assert_eq!(binary.run(&["check"]).await.code, Some(0));
    let done = retire(&[]).await;
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "order.placed@1 is retired already\n"));
    let reloaded = binary.run(&["reload", "--json"]).await;
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    record(&database, OLD, 1).await;
    let moved = old.wait_for(2).await;
    assert_eq!(moved[1].header("webhook-event-version"), Some("2"), "what is recorded in it reaches the others");
    for (arguments, want) in [
        (&["contracts", "retire", "order.placed"][..], "expected a type with a version"),
        (&["contracts", "retire", "order.placed@7"], "has no version 7; it has 1 and 2"),
        (&["contracts", "retire", "other@1"], "there is no contract for \"other\""),
    ] {
        let refused = binary.run(arguments).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(want), "{refused:?}");
    }
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_add_up_and_a_handler_that_is_renamed_or_forgotten_takes_its_counts_along() {
    let database = TestDatabase::create().await;
    let count = |event_type: &str, receiver: &str, events: u64| outboxd::telemetry::Used {
        key: outboxd::telemetry::UseKey { event_type: event_type.to_owned(), version: 1, receiver: receiver.to_owned() },
        events,
        first: std::time::Duration::from_secs(7_200),
        last: std::time::Duration::from_secs(events),
    };
    // In opposite order, at the same time, again and again: they wait for one another and never in a circle.
    let write = async |backwards: bool| {
        for _ in 0..20 {
            let mut used: Vec<_> = (0..50).map(|number| count(&format!("t{number}"), "handler:a", 3)).collect();
            if backwards {
                used.reverse();
            }
            outboxd::store::record_contract_use(database.pool(), &used).await.expect("it is written");
        }
    };
    tokio::join!(write(false), write(true));
    assert_eq!(database.count("contract_use where events = 120 and first_at < now() - interval '1 h'").await, 50);
    let pool = database.pool();
    outboxd::store::record_contract_use(pool, &[count("t1", "handler:b", 1), count("t1", "client:a", 1)]).await.expect("written");
    database
        .execute("insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('a', 'discard', '3:3:', 0, 0)")
        .await;
    outboxd::store::rename_handler(pool, ("a", "b"), "ada", None).await.expect("it is renamed");
    assert_eq!(database.count("contract_use where receiver = 'handler:a'").await, 0);
    assert_eq!(database.count("contract_use where receiver = 'handler:b'").await, 50);
    assert_eq!(database.count("contract_use where receiver = 'handler:b' and type = 't1' and events = 121").await, 1);
    outboxd::store::forget_handler(pool, "b", outboxd::store::Actor::cli("ada"), None).await.expect("it is forgotten");
    assert_eq!(used(&database).await, ["1 client:a 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_brownout_handlers_wait_and_clients_are_told_and_nothing_is_lost() {
    let (database, old, new) = (TestDatabase::create().await, Receiver::start().await, Receiver::start().await);
    let hub = "[hub]\npath = \"/hubs/events\"\n".to_owned();
    let entries = [handler("old", &old, 1), handler("new", &new, 2), CLIENTS.to_owned(), hub];
    let binary = with_contracts(Binary::relay(database.url(), &config(&entries)), "2026-12-31");
    let times: (String, String) = sqlx::query_as(
        "select to_char((now() - interval '1 h') at time zone 'UTC', form), to_char((now() + interval '20 h') at time zone 'UTC', form) \
         from (values ('YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')) f (form)",
    )
    .fetch_one(database.pool())
    .await
    .expect("two times");
    let brownout = format!("state = \"brownout\"\nbrownouts = [{{ from = \"{}\", until = \"{}\" }}]\n", times.0, times.1);
    for (wrong, want) in [
        (brownout.replace("state = \"brownout\"\n", ""), "is deprecated, and has brownouts"),
        (brownout.replace(&times.1, &times.0), "has to end later"),
        (brownout.replace(&times.1, "2030-01-01T00:00:00Z"), "longer than a day"),
        (brownout.replace(&times.1, "tomorrow"), "order.placed@1.brownouts[0].until: got tomorrow, expected a time with its zone"),
        (brownout.replace("until", "to"), "unknown key \"to\"; a brownout has from and until"),
    ] {
        change(&binary, "deprecated = {", &format!("{wrong}deprecated = {{"));
        let told = binary.run(&["check"]).await;
        assert!(told.code == Some(64) && told.stderr.contains(want), "{want}: {told:?}");
        change(&binary, &wrong, "");
    }
    change(&binary, "deprecated = {", &format!("{brownout}deprecated = {{"));
    let served = Served::of(&binary).await;
    record(&database, OLD, 1).await;
    served.running.wait_for_output("handler held").await;
    assert_eq!(new.wait_for(1).await.len(), 1, "version 2 goes on");
    wait_for_places(&database, 1).await;
    let bearer = format!("Bearer {TOKEN}");
    let page = async || ask(&served.address, "/v1/feed", &[("authorization", bearer.as_str())]).await.expect("the feed answers");
    let refused = page().await;
    assert_eq!((refused.status, &refused.json()["type"]), (503, &"urn:outboxd:brownout".into()), "{}", refused.body);
    let stream =
        ask(&served.address, "/v1/streams/order/1", &[("authorization", bearer.as_str())]).await.expect("the feed answers");
    assert_eq!((stream.status, &stream.json()["type"]), (503, &"urn:outboxd:brownout".into()), "{}", stream.body);
    let mut hub = Polling::open_as(&served.address, &bearer).await;
    assert_eq!(hub.post(SUBSCRIBE.as_bytes()).await.status, 200);
    let told = hub.next().await.expect("an answer");
    assert!(told.contains("urn:outboxd:brownout"), "{told}");
    let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a number of seconds");
    assert!((1..=20 * 3_600 + 1).contains(&wait), "{wait}");
    let known =
        ask(&served.address, "/v1/contracts", &[("authorization", bearer.as_str())]).await.expect("the feed answers").json();
    assert!(known["contracts"][0]["versions"][0]["brownouts"][0]["until"].is_string(), "{known}");
    assert_eq!(
        (
            old.received().len(),
            database.count("deliveries where subscription in (select id from subscriptions where handler = 'old')").await
        ),
        (0, 0)
    );

    change(&binary, &brownout, "");
    let reloaded = binary.run(&["reload"]).await;
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert_eq!(old.wait_for(1).await[0].header("webhook-event-version"), Some("1"));
    eventually("it is delivered at the first attempt", || async {
        let delivered = "deliveries d join subscriptions s on s.id = d.subscription \
                         where s.handler = 'old' and d.state = 'delivered' and d.attempts = 1 and s.circuit = 'closed'";
        (database.count(delivered).await == 1).then_some(())
    })
    .await;
    assert_eq!(page().await.ids().len(), 1);
    served.stop().await;
}
