//! A rate: a receiver gets no more attempts than its handler may make, retries and partitions included, and every event arrives.
//! Arrivals are counted from a moment before the relay starts, so a busy machine makes them later than they may come, never earlier.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outboxd::Verdict;
use outboxd::config::Start;
use outboxd::domain::{RateLimit, Reason};
use serde_json::json;

use crate::support::{Answer, Binary, NewRow, Receiver, Recorder, TestDatabase, eventually, quick_handler, relay};

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

fn limit(attempts: u32, period: Duration, burst: u32) -> Option<RateLimit> {
    Some(RateLimit::new(attempts, period, burst).expect("a valid limit"))
}

async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

/// When attempts arrived, by the clock of the receiver.
#[derive(Clone)]
struct Arrivals {
    began: Instant,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Arrivals {
    fn begin() -> Self {
        Self { began: Instant::now(), times: Arc::default() }
    }

    fn note(&self) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(self.began.elapsed());
    }

    /// Up to each arrival there were no more than the burst and what the rate allows in the time since the beginning.
    fn assert_within(&self, per_second: f64, burst: f64) {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        for (before, time) in times.iter().enumerate() {
            let bound = burst + per_second * time.as_secs_f64();
            assert!((before + 1) as f64 <= bound, "{} attempts within {time:?}, at most {bound:.1}: {times:?}", before + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_no_more_attempts_than_the_rate_allows_over_all_partitions_retries_included() {
    const EVENTS: i64 = 100;
    const KEYS: i64 = 20;
    for partitions in [1, 2] {
        let (database, arrivals) = (TestDatabase::create().await, Arrivals::begin());
        let noting = arrivals.clone();
        let recorder = Recorder::answering(move |_, call| {
            noting.note();
            match call {
                1 => Verdict::retry(Reason::ServerError, "not yet"),
                _ => Verdict::delivered(),
            }
        });
        database.insert_events((0..EVENTS).map(|n| numbered(n % KEYS, n))).await;
        let relay = relay(&database)
            .configured_handler("shop", recorder.handler(), |config| {
                quick_handler(config);
                config.start = Start::Beginning;
                config.partitions = partitions;
                config.rate = limit(60, Duration::from_secs(1), 10);
                // Every second attempt fails; waiting for the rate must not be what opens it.
                (config.circuit.failure_rate, config.circuit.minimum) = (1.0, 1_000);
            })
            .start()
            .expect("the relay starts");
        wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 2", EVENTS).await;
        assert_eq!(database.count("subscriptions where circuit <> 'closed' or circuit_since is not null").await, 0);
        relay.stop().await.expect("the relay stops");

        assert_eq!(recorder.calls().len() as i64, 2 * EVENTS, "no attempt is made twice");
        arrivals.assert_within(60.0, 10.0);
        for key in 0..KEYS {
            let want: Vec<i64> = (0..EVENTS).filter(|n| n % KEYS == key).collect();
            assert_eq!(recorder.numbers_of(&key.to_string()), want, "key {key} with {partitions} partitions");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_the_rate_takes_effect_and_loses_nothing() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let begin = |rate| {
        relay(&database).configured_handler("shop", recorder.handler(), move |config| {
            config.start = Start::Beginning;
            config.rate = rate;
        })
    };
    database.insert_events((0..50).map(|n| numbered(n % 5, n))).await;
    let relay = begin(limit(1, Duration::from_secs(3600), 1)).start().expect("the relay starts");
    wait_for_rows(&database, "deliveries where state = 'delivered'", 1).await;
    assert_eq!(recorder.calls().len(), 1, "the second one is an hour away");

    let faster = begin(limit(1_000, Duration::from_secs(1), 1_000));
    relay.reload(faster).await.expect("the names are unique").expect("the relay lives");
    recorder.wait_for(50).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.calls().len(), 50, "each once");
    for key in 0..5 {
        assert!(recorder.numbers_of(&key.to_string()).is_sorted(), "key {key}");
    }
}

/// Seen: whose fault it is was judged by time alone after ten graces, although the events that would have shown it waited for the rate.
#[tokio::test(flavor = "multi_thread")]
async fn one_event_at_fault_opens_no_circuit_while_the_others_wait_for_the_rate() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|request| match request.json()["n"].as_i64() {
        Some(1) => Answer::status(404),
        _ => Answer::ok(),
    })
    .await;
    // It is judged after two seconds; the next attempt comes after four.
    let entry = format!(
        "[[handlers]]\nname = \"shop\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nstart = \"beginning\"\n\
         rate = \"15/min\"\nburst = 1\nretry.max_attempts = 1\ncircuit.first_probe = \"200ms\"\n",
        receiver.url()
    );
    database.insert_events((1..=2).map(|n| numbered(n, n))).await;
    let running = Binary::relay(database.url(), &entry).spawn(&["run"]);
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'not_found' and attempts = 1", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 1).await;
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.stderr.matches("circuit").count(), 0, "{}", finished.stderr);
    assert_eq!(receiver.received().len(), 2);
}

const APPLICATION: &str = "
    create schema app;
    create table app.effects (n bigint, at timestamptz default clock_timestamp());
    create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language sql as $$
        insert into app.effects (n) values ((payload ->> 'n')::bigint)
    $$;
    create table app.began as select clock_timestamp() as at;";

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_called_for_no_more_events_than_the_rate_allows() {
    const TOO_EARLY: &str = "(select at, row_number() over (order by at) as nth from app.effects) e, app.began b
         where nth > 5 + 50 * extract(epoch from e.at - b.at)";
    let database = TestDatabase::create().await;
    database.execute(APPLICATION).await;
    database.insert_events((0..120).map(|n| numbered(n % 7, n))).await;
    let entry = "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\nstart = \"beginning\"\nrate = \"50/s\"\nburst = 5\n";
    let running = Binary::relay(database.url(), entry).spawn(&["run"]);
    wait_for_rows(&database, "app.effects", 120).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 120).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
    assert_eq!(database.count(TOO_EARLY).await, 0);
}
