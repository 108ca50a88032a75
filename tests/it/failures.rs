//! What becomes of deliveries that do not succeed: what is spent, what is held, what waits, and what a person finds afterwards.
//! A long file, because every kind of trouble has its test here, and they are read beside one another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxd::config::HandlerConfig;
use outboxd::domain::{Backoff, OnDeadLetter, Record};
use outboxd::{Reason, Verdict};
use serde_json::json;

use crate::support::{Binary, NewRow, Recorder, TestDatabase, eventually, number, quick_handler, relay};

fn numbered(key: &str, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

/// Something that a script asks and a test changes.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn turn_on(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Fails the events with this number until the switch is on.
fn failing_until(switch: &Switch, failing: i64) -> Recorder {
    let switch = switch.clone();
    Recorder::answering(move |notification, _| {
        if number(notification) == failing && !switch.is_on() {
            Verdict::retry(Reason::ServerError, "not yet")
        } else {
            Verdict::delivered()
        }
    })
}

/// Looks until so many rows fulfil a condition.
async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

/// Changes rows as an operator would: the change, then the ring.
async fn operate(database: &TestDatabase, sql: &str) {
    database.execute(&format!("{sql}; select pg_notify('outboxd_outbox', 'control')")).await;
}

async fn texts(database: &TestDatabase, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(database.pool()).await.expect("the query of the test works")
}

/// Every delivery as "state attempts reason detail", in the order of the log.
async fn deliveries(database: &TestDatabase) -> Vec<String> {
    texts(database, "select concat_ws(' ', state, attempts, reason, detail) from deliveries order by seq").await
}

/// The history as "attempt outcome reason", with a mark where it is ambiguous, in order.
async fn attempts(database: &TestDatabase) -> Vec<String> {
    let sql =
        "select concat_ws(' ', attempt, outcome, reason, case when ambiguous then 'ambiguous' end) from attempts order by seq, at";
    texts(database, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_keeps_failing_backs_off_and_becomes_a_dead_letter_with_its_history() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|_, _| Verdict::retry(Reason::ServerError, "out of order").with_status(503));
    let relay = relay(&database)
        .configured_handler("bad", recorder.handler(), |config| {
            quick_handler(config);
            config.retry.max_attempts = 4;
        })
        .start()
        .expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;

    wait_for_rows(&database, "deliveries where state = 'dead'", 1).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(recorder.calls().iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(attempts(&database).await, (1..=4).map(|n| format!("{n} retry server_error")).collect::<Vec<_>>());
    assert_eq!(deliveries(&database).await, ["dead 4 exhausted server_error: out of order"]);
    let pauses: Vec<f64> =
        sqlx::query_scalar("select extract(epoch from at - lag(at) over (order by at))::float8 from attempts order by at offset 1")
            .fetch_all(database.pool())
            .await
            .expect("the attempts can be read");
    for (pause, least) in pauses.iter().zip([0.05, 0.1, 0.2]) {
        assert!(*pause > least - 0.03, "{pauses:?}"); // recorded up to a flush later than they were made
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn back_pressure_spends_nothing() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|_, call| match call {
        1..=5 => Verdict::back_pressure(Reason::Throttled, Some(Duration::from_millis(20)), "slowly"),
        _ => Verdict::delivered(),
    });
    let relay = relay(&database)
        .configured_handler("busy", recorder.handler(), |config| {
            quick_handler(config);
            config.retry.max_attempts = 2;
        })
        .start()
        .expect("the relay starts");
    database.insert_events((1..=3).map(|number| numbered("a", number))).await;

    recorder.wait_for(3).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 3).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(recorder.numbers(), [1, 2, 3]);
    assert!(recorder.calls().iter().all(|call| call.attempt == 1));
    assert_eq!(attempts(&database).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_handler_opens_the_circuit_and_holds_everything_until_a_probe_succeeds() {
    let (database, repaired) = (TestDatabase::create().await, Switch::default());
    let switch = repaired.clone();
    let recorder = Recorder::answering(move |_, _| match switch.is_on() {
        true => Verdict::delivered(),
        false => Verdict::handler_fault(Reason::Unauthorized, "wrong token"),
    });
    let relay = relay(&database)
        .configured_handler("locked_out", recorder.handler(), |config| {
            quick_handler(config);
            config.retry.max_attempts = 2;
            config.concurrency = 1;
            config.circuit.first_probe = Duration::from_millis(50);
            config.circuit.max_probe = Duration::from_millis(50);
        })
        .start()
        .expect("the relay starts");
    database.insert_events((1..=5).map(|number| numbered(&number.to_string(), number))).await;

    wait_for_rows(&database, "subscriptions where circuit = 'open' and circuit_reason = 'unauthorized'", 1).await;
    recorder.wait_for_calls(6).await;
    assert_eq!(database.count("deliveries").await, 0);
    repaired.turn_on();
    recorder.wait_for(5).await;
    wait_for_rows(&database, "subscriptions where circuit = 'closed' and circuit_since is null", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 5).await;

    relay.stop().await.expect("the relay stops");
    assert!(recorder.calls().iter().all(|call| call.attempt == 1));
    assert_eq!(attempts(&database).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_survives_a_restart() {
    let database = TestDatabase::create().await;
    let (recorder, witness) = (Recorder::answering(|_, _| Verdict::handler_fault(Reason::Tls, "no trust")), Recorder::new());
    let start = || {
        relay(&database)
            .handler("witness", &[], witness.handler())
            .configured_handler("locked_out", recorder.handler(), |config| {
                quick_handler(config);
                config.circuit.first_probe = Duration::from_secs(600);
            })
            .start()
            .expect("the relay starts")
    };
    let first = start();
    database.insert_event(numbered("a", 1)).await;
    wait_for_rows(&database, "subscriptions where circuit = 'open'", 1).await;
    first.stop().await.expect("the relay stops");
    let calls = recorder.calls().len();

    let second = start();
    wait_for_rows(&database, "subscriptions where owner is not null and epoch > 3", 2).await;
    database.insert_event(numbered("b", 2)).await;
    witness.wait_for(2).await;
    second.stop().await.expect("the relay stops");

    assert_eq!(recorder.calls().len(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_does_not_turn_the_backlog_into_dead_letters() {
    const COUNT: usize = 200;
    let (database, repaired) = (TestDatabase::create().await, Switch::default());
    let switch = repaired.clone();
    let recorder = Recorder::answering(move |_, _| match switch.is_on() {
        true => Verdict::delivered(),
        false => Verdict::retry(Reason::ConnectionRefused, "nobody listens"),
    });
    let relay = relay(&database)
        .configured_handler("down", recorder.handler(), |config| {
            quick_handler(config);
            config.retry.max_attempts = 3;
            config.circuit.first_probe = Duration::from_millis(20);
            config.circuit.max_probe = Duration::from_millis(20);
        })
        .start()
        .expect("the relay starts");
    database.insert_events((0..COUNT as i64).map(|number| numbered(&number.to_string(), number))).await;

    recorder.wait_for_calls(60).await;
    repaired.turn_on();
    recorder.wait_for(COUNT).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", COUNT as i64).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers().into_iter().collect::<BTreeSet<_>>().len(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_that_fail_spend_no_attempt() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|_, _| Verdict::retry(Reason::ConnectionRefused, "nobody listens"));
    let relay = relay(&database)
        .configured_handler("down", recorder.handler(), |config| {
            quick_handler(config);
            config.retry.max_attempts = 2;
            // Longer than it takes until the circuit is open.
            config.retry.backoff =
                Backoff::exponential(Duration::from_millis(500), 1.0, Duration::from_millis(500), 0.0).expect("a valid backoff");
            config.circuit.first_probe = Duration::from_millis(10);
            config.circuit.max_probe = Duration::from_millis(10);
        })
        .start()
        .expect("the relay starts");
    // As many as open the circuit: each of them has spent one attempt of two when it does.
    database.insert_events((1..=5).map(|number| numbered(&number.to_string(), number))).await;

    eventually("there were many probes, or one was too many", || async {
        let is_one_dead = database.count("deliveries where state = 'dead'").await > 0;
        (is_one_dead || recorder.calls().len() >= 20).then_some(())
    })
    .await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(
        database.count("deliveries where state = 'retrying' and attempts = 1").await,
        5,
        "{:?}",
        deliveries(&database).await
    );
    assert!(recorder.calls().iter().all(|call| call.attempt <= 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_key_holds_its_own_followers_and_nobody_else() {
    let (database, repaired) = (TestDatabase::create().await, Switch::default());
    let (bad, good) = (failing_until(&repaired, 1), Recorder::new());
    let relay = relay(&database)
        .configured_handler("bad", bad.handler(), |config| {
            quick_handler(config);
            config.retry.max_attempts = 1_000;
            config.circuit.failure_rate = 1.0;
        })
        .configured_handler("good", good.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    database.insert_events([numbered("a", 1), numbered("a", 2), numbered("b", 4), numbered("a", 3), numbered("b", 5)]).await;

    good.wait_for(5).await;
    bad.wait_for(2).await;
    wait_for_rows(&database, "deliveries where state = 'waiting' and attempts = 0", 2).await;
    // One that is recorded while the key is blocked waits, too.
    database.insert_event(numbered("a", 6)).await;
    wait_for_rows(&database, "deliveries where state = 'waiting' and attempts = 0", 3).await;
    assert_eq!(bad.numbers(), [4, 5]);
    repaired.turn_on();
    bad.wait_for(6).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 12).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(bad.numbers_of("a"), [1, 2, 3, 6]);
    assert_eq!(good.numbers_of("a"), [1, 2, 3, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_followers_of_a_failing_head_arrive_in_order() {
    const COUNT: i64 = 1_500;
    let (database, repaired) = (TestDatabase::create().await, Switch::default());
    let recorder = failing_until(&repaired, 0);
    let start = || {
        relay(&database)
            .configured_handler("bad", recorder.handler(), |config| {
                quick_handler(config);
                config.retry.max_attempts = 1_000;
                config.circuit.minimum = 1_000;
            })
            .start()
            .expect("the relay starts")
    };
    let first = start();
    database.insert_events((0..COUNT / 2).map(|number| numbered("a", number))).await;
    wait_for_rows(&database, "deliveries where state = 'waiting'", COUNT / 2 - 1).await;
    // A restart in the middle: what waits must be found again.
    first.stop().await.expect("the relay stops");
    let second = start();
    database.insert_events((COUNT / 2..COUNT).map(|number| numbered("a", number))).await;
    wait_for_rows(&database, "deliveries where state = 'waiting'", COUNT - 1).await;

    repaired.turn_on();
    recorder.wait_for(COUNT as usize).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", COUNT).await;

    second.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), (0..COUNT).collect::<Vec<_>>());
}

/// Event 1 is refused for ever, everything else is taken.
fn refusing_one() -> Recorder {
    Recorder::answering(|notification, _| {
        if number(notification) == 1 { Verdict::permanent(Reason::ClientError, "no such order") } else { Verdict::delivered() }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_receiver_will_never_take_is_a_dead_letter_at_once_and_its_key_goes_on() {
    let (database, recorder) = (TestDatabase::create().await, refusing_one());
    let relay = relay(&database).configured_handler("picky", recorder.handler(), quick_handler).start().expect("the relay starts");
    database.insert_events((1..=3).map(|number| numbered("a", number))).await;

    recorder.wait_for(2).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 2).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(deliveries(&database).await, ["dead 1 client_error no such order", "delivered 1", "delivered 1"]);
    assert_eq!(attempts(&database).await, ["1 permanent client_error"]);
    assert_eq!(recorder.calls().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_holds_its_key_until_a_person_decides() {
    let (database, recorder) = (TestDatabase::create().await, refusing_one());
    let start = || {
        relay(&database)
            .configured_handler("strict", recorder.handler(), |config| {
                quick_handler(config);
                config.on_dead_letter = OnDeadLetter::HoldKey;
            })
            .start()
            .expect("the relay starts")
    };
    let first = start();
    database.insert_events([numbered("a", 1), numbered("a", 2), numbered("b", 4)]).await;
    recorder.wait_for(1).await;
    wait_for_rows(&database, "deliveries where state = 'waiting'", 1).await;
    // The key is held over a restart, too.
    first.stop().await.expect("the relay stops");
    let second = start();
    database.insert_event(numbered("a", 3)).await;
    wait_for_rows(&database, "deliveries where state = 'waiting'", 2).await;
    assert_eq!(recorder.numbers(), [4]);

    operate(&database, "update deliveries set state = 'discarded' where state = 'dead'").await;
    recorder.wait_for(3).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 3).await;

    second.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), [4, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_dead_letter_without_followers_releases_its_key() {
    let (database, recorder) = (TestDatabase::create().await, refusing_one());
    let relay = relay(&database)
        .configured_handler("strict", recorder.handler(), |config| {
            quick_handler(config);
            config.on_dead_letter = OnDeadLetter::HoldKey;
        })
        .start()
        .expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;
    wait_for_rows(&database, "deliveries where state = 'dead'", 1).await;

    operate(&database, "update deliveries set state = 'discarded' where state = 'dead'").await;
    database.insert_event(numbered("a", 2)).await;
    recorder.wait_for(1).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_older_than_max_age_is_a_dead_letter() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|_, _| Verdict::retry(Reason::ServerError, "still not"));
    let relay = relay(&database)
        .configured_handler("slow", recorder.handler(), |config| {
            quick_handler(config);
            config.retry.max_attempts = 1_000;
            config.retry.max_age = Some(Duration::from_millis(300));
        })
        .start()
        .expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;

    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'expired'", 1).await;

    relay.stop().await.expect("the relay stops");
    let calls = recorder.calls().len();
    assert!((2..=4).contains(&calls), "{calls} attempts after 0, 50 and 150 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_attempt_that_failed() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|_, call| if call == 1 { panic!("a bug of the handler") } else { Verdict::delivered() });
    let relay = relay(&database).configured_handler("buggy", recorder.handler(), quick_handler).start().expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;

    recorder.wait_for(1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 2", 1).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(attempts(&database).await, ["1 retry panicked ambiguous"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_meets_its_timeout_and_the_attempt_is_ambiguous() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering_later(|_, call| async move {
        if call == 1 {
            std::future::pending::<()>().await;
        }
        Verdict::delivered()
    });
    let relay = relay(&database)
        .configured_handler("hanging", recorder.handler(), |config| {
            quick_handler(config);
            config.timeout = Duration::from_millis(100);
        })
        .start()
        .expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;

    recorder.wait_for(1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 2", 1).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(attempts(&database).await, ["1 retry timeout ambiguous"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_record_failures_a_first_try_success_leaves_no_row_and_is_not_repeated() {
    let database = TestDatabase::create().await;
    let recorder = Recorder::answering(|notification, call| match (number(notification), call) {
        (7, 1) => Verdict::retry(Reason::ServerError, "once"),
        _ => Verdict::delivered(),
    });
    let start = || {
        relay(&database)
            .configured_handler("lean", recorder.handler(), |config: &mut HandlerConfig| {
                quick_handler(config);
                config.record = Record::Failures;
            })
            .start()
            .expect("the relay starts")
    };
    let first = start();
    database.insert_events((1..=20).map(|number| numbered(&number.to_string(), number))).await;
    recorder.wait_for(20).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 2", 1).await;
    first.stop().await.expect("the relay stops");
    assert_eq!(database.count("deliveries").await, 1);

    let second = start();
    database.insert_event(numbered("x", 21)).await;
    recorder.wait_for(21).await;
    second.stop().await.expect("the relay stops");

    assert_eq!(recorder.delivered().len(), 21);
    assert_eq!(recorder.calls().len(), 22);
}

/// Schema of an application whose function notes what it gets and refuses what it is told to refuse.
const APPLICATION: &str = "
    create schema app;
    create table app.effects (n bigint, at bigint generated always as identity);
    create table app.refused (n bigint);
    create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
    begin
        insert into app.effects (n) values ((payload ->> 'n')::bigint);
        if exists (select 1 from app.refused r where r.n = (payload ->> 'n')::bigint) then
            raise exception 'refused %', payload ->> 'n';
        end if;
    end $$";

const TAKE: &str =
    "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\nretry.base = \"50ms\"\nretry.max_delay = \"200ms\"";

async fn effects(database: &TestDatabase) -> Vec<i64> {
    sqlx::query_scalar("select n from app.effects order by at").fetch_all(database.pool()).await.expect("the effects can be read")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_called_once_per_event_and_in_order() {
    const COUNT: i64 = 3_000;
    let database = TestDatabase::create().await;
    database.execute(APPLICATION).await;
    let running = Binary::relay(database.url(), TAKE).spawn(&["run"]);
    for chunk in 0..3 {
        let numbers = chunk * COUNT / 3..(chunk + 1) * COUNT / 3;
        database.insert_events(numbers.map(|number| numbered("a", number))).await;
    }

    wait_for_rows(&database, "deliveries where state = 'delivered'", COUNT).await;
    running.terminate();

    assert_eq!(running.finish().await.code, Some(0));
    assert_eq!(effects(&database).await, (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_fails_takes_back_its_own_writes_only_and_its_key_waits() {
    let database = TestDatabase::create().await;
    database.execute(APPLICATION).await;
    database.execute("insert into app.refused values (1)").await;
    let running = Binary::relay(database.url(), &format!("{TAKE}\nretry.max_attempts = 1000")).spawn(&["run"]);
    database.insert_events([numbered("a", 1), numbered("b", 4), numbered("a", 2), numbered("b", 5), numbered("a", 3)]).await;

    wait_for_rows(&database, "deliveries where state = 'waiting' and attempts = 0", 2).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 2).await;
    assert_eq!(effects(&database).await, [4, 5]);
    eventually("the head is retried", || async { (database.count("attempts").await > 3).then_some(()) }).await;
    database.execute("delete from app.refused").await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 5).await;
    running.terminate();

    assert_eq!(running.finish().await.code, Some(0));
    assert_eq!(effects(&database).await, [4, 5, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_does_not_exist_holds_its_events_until_it_does() {
    let database = TestDatabase::create().await;
    let handler = format!("{TAKE}\ncircuit.first_probe = \"50ms\"\ncircuit.max_probe = \"50ms\"\nretry.max_attempts = 1");
    let running = Binary::relay(database.url(), &handler).spawn(&["run"]);
    database.insert_events((1..=3).map(|number| numbered("a", number))).await;

    wait_for_rows(&database, "subscriptions where circuit = 'open' and circuit_reason = 'not_found'", 1).await;
    database.execute(APPLICATION).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 3).await;
    running.terminate();

    assert_eq!(running.finish().await.code, Some(0));
    assert_eq!(effects(&database).await, [1, 2, 3]);
}

/// Seen in a run under faults: a person replayed an old dead letter of a key while a younger event of it was between two attempts, and
/// what came after that one was delivered before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_an_older_event_lets_nobody_pass_one_that_still_fails() {
    let database = TestDatabase::create().await;
    let (mended, switch) = (Switch::default(), Switch::default());
    let handler = Recorder::answering({
        let (mended, switch) = (mended.clone(), switch.clone());
        move |notification, _| match number(notification) {
            1 if !mended.is_on() => Verdict::permanent(Reason::ClientError, "never"),
            2 if !switch.is_on() => Verdict::retry(Reason::ServerError, "not yet"),
            _ => Verdict::delivered(),
        }
    });
    let patient = |config: &mut HandlerConfig| {
        config.retry.backoff =
            Backoff::exponential(Duration::from_secs(4), 1.0, Duration::from_secs(4), 0.0).expect("a valid backoff");
    };
    let _relay = relay(&database).configured_handler("h", handler.handler(), patient).start().expect("valid");
    database.insert_events([numbered("a", 1), numbered("a", 2)]).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and seq = 1", 1).await;
    wait_for_rows(&database, "deliveries where state = 'retrying' and seq = 2", 1).await;
    mended.turn_on();
    operate(&database, "update deliveries set state = 'retrying', due_at = clock_timestamp() where seq = 1").await;
    handler.wait_for(1).await;
    database.insert_events([numbered("a", 3), numbered("b", 4)]).await;
    handler.wait_for(2).await;
    assert_eq!(handler.numbers(), [1, 4], "the third has not passed the second");
    switch.turn_on();
    handler.wait_for(4).await;
    assert_eq!(handler.numbers_of("a"), [1, 2, 3]);
}
