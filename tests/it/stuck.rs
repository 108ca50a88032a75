//! Every way in which a handler can be stuck looks stuck: to `status`, to `/readyz`, in the metrics and as an alert; and all of it is
//! over when the cause is gone. On the built binary, with a real server that refuses, waits or has lost what the relay needs.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::task::JoinSet;

use crate::support::{Answer, Binary, NewRow, Receiver, Running, TestDatabase, eventually, get};

/// One way of being stuck: what is done to the database, how it is taken back, and what the relay then says.
struct Way {
    name: &'static str,
    breaks: &'static str,
    mends: &'static str,
    /// Held open by a connection of its own, so that the statement keeps its locks.
    is_held: bool,
    /// In the reason of `/readyz` and in the complaint of `status`.
    told: &'static str,
    /// The alert, where the database can still be told of one.
    alert: Option<&'static str>,
}

const STUCK: Option<&str> = Some("handler_stuck/one");

fn ways() -> Vec<Way> {
    let refused = |name, breaks, mends, told| Way { name, breaks, mends, is_held: false, told, alert: STUCK };
    vec![
        Way {
            name: "the events are locked",
            breaks: "begin; lock table outbox.events in access exclusive mode",
            mends: "rollback",
            is_held: true,
            told: "lock timeout",
            alert: STUCK,
        },
        Way {
            name: "the deliveries are locked",
            breaks: "begin; lock table outbox.deliveries in access exclusive mode",
            mends: "rollback",
            is_held: true,
            told: "lock timeout",
            alert: STUCK,
        },
        refused(
            "the disk is full",
            "create function outbox.refuse() returns trigger language plpgsql as $$
             begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
             create trigger refuse before insert on outbox.deliveries for each statement execute function outbox.refuse()",
            "drop trigger refuse on outbox.deliveries; drop function outbox.refuse()",
            "No space left on device",
        ),
        refused(
            "a permission is gone",
            "create function outbox.refuse() returns trigger language plpgsql as $$
             begin raise exception 'permission denied for table deliveries' using errcode = '42501'; end $$;
             create trigger refuse before insert on outbox.deliveries for each statement execute function outbox.refuse()",
            "drop trigger refuse on outbox.deliveries; drop function outbox.refuse()",
            "permission denied",
        ),
        refused(
            "a flush takes longer than the statement timeout",
            "create function outbox.refuse() returns trigger language plpgsql as $$ begin perform pg_sleep(20); return null; end $$;
             create trigger refuse before insert on outbox.deliveries for each statement execute function outbox.refuse()",
            "drop trigger refuse on outbox.deliveries; drop function outbox.refuse()",
            "statement timeout",
        ),
        refused(
            "a function that reads need is gone",
            "alter function outbox.quick_key(text, text, jsonb, json, text, text[]) rename to quick_key_away",
            "alter function outbox.quick_key_away(text, text, jsonb, json, text, text[]) rename to quick_key",
            "quick_key",
        ),
        refused(
            "the subscription is deleted",
            "create table public.kept as select * from outbox.subscriptions; delete from outbox.subscriptions",
            "insert into outbox.subscriptions overriding system value select * from public.kept",
            "deleted",
        ),
        Way {
            name: "the schema is gone",
            breaks: "alter schema outbox rename to away",
            mends: "alter schema away rename to outbox",
            is_held: false,
            told: "",
            alert: None,
        },
    ]
}

fn binary(database: &TestDatabase) -> Binary {
    Binary::with_config(&format!(
        "[database]\nurl = \"{}\"\nlock_timeout = \"700ms\"\nstatement_timeout = \"1s\"\n[http]\nlisten = \"127.0.0.1:0\"\nstall_after = \"2s\"\n\
         [relay]\nlease = \"3s\"\nflush_interval = \"20ms\"\n[alerts]\ninterval = \"150ms\"\nnot_polling_for = \"1s\"\n\
         [[handlers]]\nname = \"one\"\nkind = \"discard\"\n",
        database.url()
    ))
}

async fn value(address: &str, series: &str) -> Option<f64> {
    let text = get(address, "/metrics").await.ok()?.1;
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn wait_for_delivered(database: &TestDatabase, count: i64) {
    eventually("it is delivered", || async { (database.count("deliveries").await == count).then_some(()) }).await;
}

async fn stop(running: Running) {
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

/// What `/readyz` says, in one text.
async fn readiness(address: &str) -> Option<(u16, String)> {
    let (code, body) = get(address, "/readyz").await.ok()?;
    let report: Value = serde_json::from_str(&body).ok()?;
    Some((code, report["reasons"].to_string()))
}

async fn is_stuck_and_recovers(way: Way) {
    let name = way.name;
    let database = TestDatabase::create().await;
    let binary = binary(&database);
    let (running, address) = binary.serve().await;
    database.insert_event(NewRow::new("a")).await;
    wait_for_delivered(&database, 1).await;
    eventually(&format!("{name}: ready at first"), || async { readiness(&address).await.filter(|(code, _)| *code == 200) }).await;

    let mut hand = PgConnection::connect(database.url()).await.expect("a connection");
    if !way.is_held {
        hand.execute(way.breaks).await.expect(name);
    }
    let is_there = !way.breaks.contains("schema");
    if is_there {
        // Before the lock, which would keep it out.
        database.insert_event(NewRow::new("b")).await;
    }
    if way.is_held {
        hand.execute(way.breaks).await.expect(name);
        // Whatever is under way has passed before the lock was granted; this one comes behind it and has to be read or recorded.
        let insert = "insert into outbox.events (type, payload) values ('c', '{}')";
        if way.breaks.contains("events") { hand.execute(insert).await } else { database.pool().execute(insert).await }.expect(name);
    }

    let readyz = format!("{name}: /readyz is red and says why");
    eventually(&readyz, || async { readiness(&address).await.filter(|(code, why)| *code == 503 && why.contains(way.told)) }).await;
    let ready = format!("{name}: outboxd_ready is 0");
    eventually(&ready, || async { value(&address, "outboxd_ready").await.filter(|ready| *ready == 0.0) }).await;
    let status = format!("{name}: status ends with 2 and says why");
    eventually(&status, || async {
        let finished = binary.run(&["status"]).await;
        (finished.code == Some(2) && finished.stdout.contains(way.told)).then_some(())
    })
    .await;
    if let Some(alert) = way.alert {
        let firing = format!("alerts where key = '{alert}' and status = 'firing'");
        eventually(&format!("{name}: {firing}"), || async { (database.count(&firing).await == 1).then_some(()) }).await;
    }
    if way.alert.is_some() && way.told != "deleted" {
        for series in ["outboxd_handler_stuck{handler=\"one\"}", "outboxd_oldest_pending_age_seconds{handler=\"one\"}"] {
            eventually(&format!("{name}: {series}"), || async { value(&address, series).await.filter(|value| *value > 0.0) }).await;
        }
        let listed = format!("{name}: handlers list says stuck");
        eventually(&listed, || async {
            let finished = binary.run(&["handlers", "list", "--json"]).await;
            // Where the log is locked nothing can be counted; the state is told all the same.
            (finished.code == Some(0) && finished.stdout.contains("\"stuck\"")).then_some(())
        })
        .await;
    }

    hand.execute(way.mends).await.expect(name);
    eventually(&format!("{name}: ready again"), || async { readiness(&address).await.filter(|(code, _)| *code == 200) }).await;
    let over = format!("{name}: status ends with 0 again");
    eventually(&over, || async { (binary.run(&["status"]).await.code == Some(0)).then_some(()) }).await;
    if let Some(alert) = way.alert {
        let resolved = format!("alerts where key = '{alert}' and status = 'resolved'");
        eventually(&format!("{name}: {resolved}"), || async { (database.count(&resolved).await == 1).then_some(()) }).await;
    }
    eventually(&format!("{name}: everything is delivered"), || async {
        (database.count("deliveries").await == database.count("events").await).then_some(())
    })
    .await;
    let stuck = "outboxd_handler_stuck{handler=\"one\"}";
    eventually(&format!("{name}: {stuck} is 0"), || async { value(&address, stuck).await.filter(|stuck| *stuck == 0.0) }).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_being_stuck_looks_stuck_and_is_over_when_its_cause_is_gone() {
    let mut ways: JoinSet<()> = ways().into_iter().map(is_stuck_and_recovers).collect();
    while let Some(ended) = ways.join_next().await {
        if let Err(died) = ended {
            std::panic::resume_unwind(died.into_panic());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_handler_from_going_on_is_stored_with_its_sqlstate_and_its_beginning() {
    let database = TestDatabase::create().await;
    let (running, _) = binary(&database).serve().await;
    wait_for_delivered(&database, 0).await;
    database
        .execute(
            "create function refuse() returns trigger language plpgsql as $$
             begin raise exception 'no more room' using errcode = '55000'; end $$;
             create trigger refuse before insert on deliveries for each statement execute function refuse()",
        )
        .await;
    database.insert_event(NewRow::new("a")).await;

    let failing = "progress where failures >= 3 and sqlstate = '55000' and operation = 'flush' and error like '%no more room%'";
    eventually(failing, || async { (database.count(failing).await == 1).then_some(()) }).await;
    let began = "select failing_since::text from progress";
    let since: String = sqlx::query_scalar(began).fetch_one(database.pool()).await.expect("one row");
    let more = "progress where failures >= 5";
    eventually(more, || async { (database.count(more).await == 1).then_some(()) }).await;
    let still: String = sqlx::query_scalar(AssertSqlSafe(began.to_owned())).fetch_one(database.pool()).await.expect("one row");
    // Counted back from another moment: the same within the precision of the two clocks.
    let differs = format!("(select 1 where abs(extract(epoch from '{since}'::timestamptz - '{still}'::timestamptz)) > 0.5) moved");
    assert_eq!(database.count(&differs).await, 0, "{since} {still}");

    database.execute("drop trigger refuse on deliveries").await;
    let over = "progress where failing_since is null and read_at is not null and flushed_at is not null";
    eventually(over, || async { (database.count(over).await == 1).then_some(()) }).await;
    wait_for_delivered(&database, 1).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_receiver_asked_for_an_hour_is_waiting_until_then() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|_| Answer::status(429).header("retry-after", "3600")).await;
    let handler = format!("[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n", receiver.url());
    let binary = Binary::relay_with_http(database.url(), &handler);
    let (running, address) = binary.serve().await;
    database.insert_event(NewRow::new("a")).await;

    eventually("status says until when it waits", || async {
        let finished = binary.run(&["status"]).await;
        let is_told = finished.stdout.contains("waiting until 20") && finished.stdout.contains("its receiver asked for it: ");
        (finished.code == Some(1) && is_told).then_some(())
    })
    .await;
    let series = "outboxd_handler_waiting_until_timestamp_seconds{handler=\"hook\"}";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    eventually(series, || async { value(&address, series).await.filter(|until| *until > now + 3000.0) }).await;
    let listed = binary.run(&["handlers", "list"]).await;
    assert!(listed.stdout.contains("waiting until 20"), "{} {}", listed.stdout, listed.stderr);
    assert_eq!(readiness(&address).await.map(|(code, _)| code), Some(200), "waiting is no fault of the relay");
    stop(running).await;
}
