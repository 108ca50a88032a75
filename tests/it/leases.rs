//! Who delivers: one owner per subscription, whatever dies, freezes or comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use outboxd::RelayBuilder;
use outboxd::config::HandlerConfig;
use outboxd::domain::{Outcome, Reason};
use outboxd::store::{self, Done, Entries, Fenced, Reached, RecordedAttempt, Successes, subscriptions};
use serde_json::json;
use sqlx::Executor;

use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, quick_handler, relay};

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

/// Two handlers that only take a place in the log.
const TWO: &str = "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n[[handlers]]\nname = \"two\"\nkind = \"discard\"";

const OWNERS: &str = "(select distinct owner from subscriptions where owner is not null) o";

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_the_handlers_and_deliver_nothing_twice() {
    let (database, one, two) = (TestDatabase::create().await, Recorder::new(), Recorder::new());
    let start = || {
        relay(&database).handler("one", &[], one.handler()).handler("two", &[], two.handler()).start().expect("the relay starts")
    };
    let first = start();
    wait_for_rows(&database, "subscriptions where owner is not null", 2).await;
    let second = start();
    let mut count = 0;
    // Events all the time while one gives a handler to the other.
    eventually("each relay owns one", || {
        count += 1;
        let database = &database;
        async move {
            database.insert_event(numbered(count % 7, count)).await;
            (database.count(OWNERS).await == 2).then_some(())
        }
    })
    .await;
    second.stop().await.expect("the relay stops");
    wait_for_rows(&database, "subscriptions where owner is not null", 2).await;
    wait_for_rows(&database, OWNERS, 1).await;
    count += 1;
    database.insert_event(numbered("last", count)).await;

    one.wait_for(count as usize).await;
    two.wait_for(count as usize).await;
    wait_for_rows(&database, "deliveries", 2 * count).await;
    first.stop().await.expect("the relay stops");

    assert_eq!((one.calls().len() as i64, two.calls().len() as i64), (count, count));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_relay_owned_is_taken_over() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay(database.url(), TWO);
    let (victim, survivor) = (binary.spawn(&["run"]), binary.spawn(&["run"]));
    wait_for_rows(&database, OWNERS, 2).await;
    database.insert_events((1..=100).map(|number| numbered(number, number))).await;
    wait_for_rows(&database, "deliveries", 200).await;

    victim.kill().await;
    database.insert_events((101..=200).map(|number| numbered(number, number))).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 400).await;
    wait_for_rows(&database, OWNERS, 1).await;

    survivor.terminate();
    assert_eq!(survivor.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_frozen_beyond_its_lease_records_nothing() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay(database.url(), "[[handlers]]\nname = \"one\"\nkind = \"discard\"");
    let frozen = binary.spawn(&["run"]);
    database.insert_events((1..=50).map(|number| numbered(number, number))).await;
    wait_for_rows(&database, "deliveries", 50).await;

    frozen.freeze();
    database.insert_events((51..=100).map(|number| numbered(number, number))).await;
    let other = binary.spawn(&["run"]);
    wait_for_rows(&database, "deliveries where state = 'delivered'", 100).await;
    let state = "select epoch || ' ' || owner from subscriptions";
    let before: String = sqlx::query_scalar(state).fetch_one(database.pool()).await.expect("a subscription");
    frozen.thaw();
    frozen.wait_for_output("lease lost").await;
    database.insert_events((101..=150).map(|number| numbered(number, number))).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 150).await;

    let after: String = sqlx::query_scalar(state).fetch_one(database.pool()).await.expect("a subscription");
    assert_eq!(before, after);
    for running in [frozen, other] {
        running.terminate();
        let finished = running.finish().await;
        assert_eq!(finished.code, Some(0));
        assert!(!finished.stderr.contains("could not go on"), "{}", finished.stderr);
    }
}

/// Every way in which an owner writes, under an epoch that is over. The tests beside it freeze a process, and what that holds then is chance.
#[tokio::test]
async fn an_owner_whose_epoch_is_over_writes_nothing() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=3).map(|number| numbered(number, number))).await;
    database
        .execute(
            "insert into subscriptions (handler, kind, snapshot, low_seq, high_seq, owner, lease_until)
             values ('all', 'code', '3:3:', 0, 0, 'we', now() + interval '1 hour')",
        )
        .await;
    let (pool, id) = (database.pool(), sqlx::query_scalar("select id from subscriptions").fetch_one(database.pool()).await);
    let id = id.expect("a subscription");
    let take_up = || async { subscriptions::take_up(pool, id, "we").await.expect("it answers").expect("it is ours") };
    let (stale, current) = (take_up().await, take_up().await);
    let reached = Reached { position: stale.position.after(stale.position.snapshot.clone(), 3), done: Done::AsStored };
    let delivered = || Entries { delivered: vec![1], ..Entries::default() };
    let failed = || Entries { attempts: vec![an_attempt()], ..delivered() };

    for entries in [Entries::default(), delivered(), failed()] {
        let written = store::record(pool, stale.fence, "we", &reached, &entries).await.expect("it answers");
        assert_eq!(written.fenced, Fenced::LeaseLost, "{entries:?}");
    }
    for delivered in [Vec::new(), vec![1]] {
        let flush = Successes { fence: stale.fence, reached: reached.clone(), delivered };
        let written = store::record_together(pool, &[flush]).await.expect("it answers");
        assert!(written.is_empty(), "{written:?}");
    }
    let counted = store::count_attempt(pool, stale.fence, 1, None).await.expect("it answers");
    assert_eq!(counted, None);
    let circuit = subscriptions::record_circuit(pool, stale.fence, ("open", None), None, None).await.expect("it answers");
    assert_eq!(circuit, Fenced::LeaseLost);

    assert_eq!(database.count("subscriptions where high_seq = 0 and circuit = 'closed'").await, 1);
    assert_eq!(database.count("deliveries").await + database.count("attempts").await, 0);
    let written = store::record(pool, current.fence, "we", &reached, &failed()).await.expect("it answers");
    assert_eq!((written.fenced, written.unstorable), (Fenced::Written, Vec::new()));
}

fn an_attempt() -> RecordedAttempt {
    RecordedAttempt {
        seq: 1,
        attempt: 1,
        duration_ms: 1,
        status: None,
        ambiguous: false,
        outcome: Outcome::Retry,
        reason: Reason::Failed,
        detail: String::new(),
    }
}

/// A function that waits at a gate, an advisory lock, and then notes the event.
const GATED: &str = "
    create schema app;
    create table app.effects (n bigint);
    create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
    begin
        perform pg_advisory_lock_shared(42);
        perform pg_advisory_unlock_shared(42);
        insert into app.effects (n) values ((payload ->> 'n')::bigint);
    end $$";

const TAKE: &str =
    "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\nlock_timeout = \"60s\"\nstatement_timeout = \"60s\"\n";

/// How many function calls stand at the gate.
const AT_THE_GATE: &str = "pg_locks l where l.locktype = 'advisory' and l.objid = 42 and not l.granted
                           and l.database = (select oid from pg_database where datname = current_database())";

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_frozen_in_a_function_is_taken_over_and_its_effect_is_taken_back() {
    let database = TestDatabase::create().await;
    database.execute(GATED).await;
    let mut gate = database.connect().await;
    gate.execute("select pg_advisory_lock(42)").await.expect("locked");
    let binary = Binary::relay(database.url(), TAKE);
    let frozen = binary.spawn(&["run"]);
    database.insert_events((1..=3).map(|number| numbered("a", number))).await;
    wait_for_rows(&database, AT_THE_GATE, 1).await;

    frozen.freeze();
    gate.execute("select pg_advisory_unlock(42)").await.expect("unlocked");
    let other = binary.spawn(&["run"]);
    wait_for_rows(&database, "deliveries where state = 'delivered'", 3).await;
    frozen.thaw();
    frozen.wait_for_output("lease lost").await;

    for running in [frozen, other] {
        running.terminate();
        assert_eq!(running.finish().await.code, Some(0));
    }
    assert_eq!(database.count("app.effects").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_runs_longer_than_the_lease_costs_nobody_a_lease() {
    let database = TestDatabase::create().await;
    database.execute(GATED).await;
    let mut gate = database.connect().await;
    gate.execute("select pg_advisory_lock(42)").await.expect("locked");
    let running =
        Binary::relay(database.url(), &format!("{TAKE}[[handlers]]\nname = \"other\"\nkind = \"discard\"")).spawn(&["run"]);
    database.insert_event(numbered("a", 1)).await;
    wait_for_rows(&database, AT_THE_GATE, 1).await;

    // Longer than the lease, by the only clock that counts for it.
    let began: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(database.pool()).await.expect("a time");
    let renewed = format!("subscriptions where lease_until > '{began}'::timestamptz + interval '7 s'");
    wait_for_rows(&database, &renewed, 2).await;
    gate.execute("select pg_advisory_unlock(42)").await.expect("unlocked");
    wait_for_rows(&database, "deliveries where state = 'delivered'", 2).await;

    running.terminate();
    let finished = running.finish().await;
    assert!(!finished.stderr.contains("lease lost"), "{}", finished.stderr);
    assert_eq!(database.count("app.effects").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_keep_the_order_per_key_and_deliver_once() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let start = || {
        relay(&database)
            .configured_handler("wide", recorder.handler(), |config: &mut HandlerConfig| config.partitions = 4)
            .start()
            .expect("the relay starts")
    };
    let relays = [start(), start()];
    wait_for_rows(&database, OWNERS, 2).await;
    for chunk in 0..10 {
        database.insert_events((0..100).map(|n| numbered(n % 40, chunk * 100 + n))).await;
    }

    recorder.wait_for(1_000).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 1_000).await;
    wait_for_rows(&database, "(select distinct subscription from deliveries) d", 4).await;
    for relay in relays {
        relay.stop().await.expect("the relay stops");
    }

    assert_eq!(recorder.calls().len(), 1_000);
    for key in 0..40 {
        let numbers = recorder.numbers_of(&key.to_string());
        assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_handler_holds_its_events_and_delivers_them_when_it_is_resumed() {
    let (database, paused, other) = (TestDatabase::create().await, Recorder::new(), Recorder::new());
    let relay = relay(&database)
        .configured_handler("paused", paused.handler(), quick_handler)
        .configured_handler("other", other.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;
    paused.wait_for(1).await;
    other.wait_for(1).await;

    let ring = "select pg_notify('outboxd_outbox', 'control')";
    database
        .execute(&format!("update subscriptions set paused_at = now(), paused_by = 'test' where handler = 'paused'; {ring}"))
        .await;
    // The lease round that reads the pause also writes the lease.
    let began: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(database.pool()).await.expect("a time");
    wait_for_rows(&database, &format!("subscriptions where lease_until > '{began}'::timestamptz + interval '4 s'"), 2).await;
    database.insert_events((2..=20).map(|number| numbered("a", number))).await;
    other.wait_for(20).await;
    assert_eq!(paused.numbers(), [1]);
    database.execute(&format!("update subscriptions set paused_at = null where handler = 'paused'; {ring}")).await;
    paused.wait_for(20).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(paused.numbers(), (1..=20).collect::<Vec<_>>());
    assert_eq!(paused.calls().iter().map(|call| call.id).collect::<BTreeSet<_>>().len(), 20);
}

/// Seen under faults: a relay that was cut off in mid-flush kept the row of its subscription locked on the server for a minute, and nobody
/// could renew or take the lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_falls_silent_in_a_transaction_is_ended_before_a_lease_is_over() {
    let database = TestDatabase::create().await;
    let mut lease = Duration::ZERO;
    let _ = RelayBuilder::new(database.url()).configure(|config| lease = config.relay.lease);
    let options = store::Options {
        url: database.url(),
        schema: "outbox",
        application_name: "outboxd test",
        max_connections: 2,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(5),
    };
    let pool = store::connect(&options).await.expect("the test server takes connections");

    let bound: i64 =
        sqlx::query_scalar("select setting::bigint from pg_settings where name = 'idle_in_transaction_session_timeout'")
            .fetch_one(&pool)
            .await
            .expect("a setting");

    let bound = Duration::from_millis(bound.unsigned_abs());
    assert!(!bound.is_zero() && bound < lease, "{bound:?} of {lease:?}");
}
