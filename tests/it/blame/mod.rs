//! Whose fault is it? One event that meets a fault for good, beside others that are taken: it alone suffers. A fault that everybody meets
//! still holds everything and spends nothing.

mod burials;
mod destinations;
mod lonely;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxd::config::HandlerConfig;
use outboxd::domain::{OnDeadLetter, Ordering as Order};
use outboxd::{Notification, Reason, Verdict};
use serde_json::json;

use crate::support::{Answer, Binary, NewRow, Receiver, Recorder, TestDatabase, eventually, number, quick_handler, relay};

pub fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

/// Meets a fault with some events, for good, and takes the others.
pub fn faulty(is_bad: impl Fn(&Notification) -> bool + Send + Sync + 'static) -> Recorder {
    Recorder::answering(move |notification, _| match is_bad(notification) {
        true => Verdict::handler_fault(Reason::NotFound, "no such order").with_status(404),
        false => Verdict::delivered(),
    })
}

/// Three attempts within some 200 ms, and a circuit that would hold up everything if it opened.
pub fn strict(config: &mut HandlerConfig) {
    quick_handler(config);
    config.retry.max_attempts = 3;
    config.circuit.first_probe = Duration::from_secs(600);
    config.circuit.max_probe = Duration::from_secs(600);
}

pub async fn wait_for_rows(database: &TestDatabase, what: &str, count: i64) {
    eventually(&format!("{count} {what}"), || async { (database.count(what).await == count).then_some(()) }).await;
}

const DEAD: &str = "deliveries where state = 'dead' and reason = 'not_found' and status = 404 and attempts = 3";

/// The handler flows, and each bad event is a dead letter with its reason.
async fn only_the_bad_suffer(bad: &'static [i64], count: i64, configure: impl Fn(&mut HandlerConfig)) {
    let (database, recorder) = (TestDatabase::create().await, faulty(move |event| bad.contains(&number(event))));
    database.insert_events((1..=count).map(|n| numbered(n, n))).await;
    let relay = relay(&database)
        .configured_handler("shop", recorder.handler(), |config| {
            strict(config);
            config.start = outboxd::config::Start::Beginning;
            configure(config);
        })
        .start()
        .expect("the relay starts");

    wait_for_rows(&database, DEAD, bad.len() as i64).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", count - bad.len() as i64).await;
    wait_for_rows(&database, "subscriptions where circuit <> 'closed' or circuit_since is not null", 0).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers().into_iter().collect::<BTreeSet<_>>().len(), count as usize - bad.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_key_suffers_alone_wherever_it_stands_in_the_log() {
    for bad in [&[1][..], &[50], &[100]] {
        only_the_bad_suffer(bad, 100, |_| {}).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_bad_keys_at_the_head_of_the_log_do_not_stop_the_others() {
    for concurrency in [1, 4, 16] {
        only_the_bad_suffer(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 110, |config| config.concurrency = concurrency).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_order_and_with_partitions_the_bad_event_suffers_alone_as_well() {
    only_the_bad_suffer(&[3, 40], 60, |config| config.ordering = Order::None).await;
    only_the_bad_suffer(&[3, 40], 60, |config| config.partitions = 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_is_never_taken_does_not_stop_the_other_types() {
    let (database, recorder) = (TestDatabase::create().await, faulty(|event| event.event_type == "order.audited"));
    // More of them at the head than can be in flight.
    let kind = |n| if n <= 40 || n % 3 == 0 { "order.audited" } else { "order.placed" };
    database.insert_events((1..=100).map(|n| NewRow { event_type: kind(n).to_owned(), ..numbered(n, n) })).await;
    let relay = relay(&database)
        .configured_handler("shop", recorder.handler(), |config| {
            strict(config);
            config.start = outboxd::config::Start::Beginning;
        })
        .start()
        .expect("the relay starts");
    wait_for_rows(&database, DEAD, 60).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 40).await;
    relay.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_that_holds_its_key_holds_nothing_else() {
    let (database, recorder) = (TestDatabase::create().await, faulty(|event| number(event) == 1));
    let relay = relay(&database)
        .configured_handler("shop", recorder.handler(), |config| {
            strict(config);
            config.on_dead_letter = OnDeadLetter::HoldKey;
        })
        .start()
        .expect("the relay starts");
    database.insert_events([numbered("a", 1), numbered("a", 2), numbered("b", 3), numbered("c", 4)]).await;
    wait_for_rows(&database, &format!("{DEAD} and holds_key"), 1).await;
    wait_for_rows(&database, "deliveries where state = 'waiting' and attempts = 0", 1).await;
    recorder.wait_for(2).await;
    relay.stop().await.expect("the relay stops");
}

/// An outage that begins in the middle of the traffic and answers 404 to everybody.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_answers_404_to_everybody_holds_everything_and_spends_nothing() {
    let (database, is_down) = (TestDatabase::create().await, Arc::new(AtomicBool::new(false)));
    let down = Arc::clone(&is_down);
    let recorder = faulty(move |_| down.load(Ordering::SeqCst));
    let relay = relay(&database)
        .configured_handler("shop", recorder.handler(), |config| {
            strict(config);
            config.circuit.first_probe = Duration::from_millis(40);
            config.circuit.max_probe = Duration::from_millis(40);
        })
        .start()
        .expect("the relay starts");
    database.insert_events((1..=40).map(|n| numbered(n, n))).await;
    recorder.wait_for(40).await;
    is_down.store(true, Ordering::SeqCst);
    database.insert_events((41..=140).map(|n| numbered(n % 60, n))).await;
    wait_for_rows(&database, "subscriptions where circuit <> 'closed' and circuit_reason = 'not_found'", 1).await;
    recorder.wait_for_calls(40 + 32 + 20).await;
    assert_eq!(database.count("deliveries where state <> 'delivered'").await, 0);
    is_down.store(false, Ordering::SeqCst);
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 140).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(database.count("attempts").await, 0);
}

/// Each answer of HTTP that claims to be about everybody, on the built binary.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_one_key_is_told_once_and_the_circuit_does_not_flap() {
    for (status, reason) in [(404, "not_found"), (401, "unauthorized"), (403, "unauthorized"), (410, "gone"), (302, "redirected")] {
        let database = TestDatabase::create().await;
        let receiver = Receiver::answering(move |request| {
            let is_bad = request.json()["n"] == 7;
            if is_bad { Answer::status(status).body("no such order") } else { Answer::ok() }
        })
        .await;
        database.insert_events((1..=60).map(|n| numbered(n, n))).await;
        let running = Binary::relay(database.url(), &hook(&receiver.url())).spawn(&["run"]);
        wait_for_rows(&database, &format!("deliveries where state = 'dead' and reason = '{reason}' and attempts = 3"), 1).await;
        wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 59).await;
        running.terminate();
        let log = running.finish().await.stderr;
        assert_eq!(log.matches("the fault is that of the event").count(), 1, "{log}");
        assert_eq!(log.matches("circuit").count(), 0, "{log}");
    }
}

pub fn hook(url: &str) -> String {
    format!(
        "[[handlers]]\nname = \"shop\"\nkind = \"webhook\"\nurl = \"{url}\"\negress = \"any\"\nstart = \"beginning\"\n\
         retry = {{ base = \"50ms\", max_delay = \"1s\", jitter = 0, max_attempts = 3 }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_dead_letter_that_is_still_not_found_becomes_one_again_beside_others() {
    let (database, recorder) = (TestDatabase::create().await, faulty(|event| number(event) == 1));
    let relay = relay(&database).configured_handler("shop", recorder.handler(), strict).start().expect("the relay starts");
    database.insert_events((1..=20).map(|n| numbered(n, n))).await;
    wait_for_rows(&database, DEAD, 1).await;
    let calls = recorder.calls().len();
    let replay = outboxd::store::NewReplay { id: uuid::Uuid::new_v4(), ..outboxd::store::NewReplay::default() };
    outboxd::store::start_replay(database.pool(), &replay, outboxd::store::Actor::cli("ada")).await.expect("the replay is frozen");
    recorder.wait_for_calls(calls + 1).await;
    database.insert_events((21..=40).map(|n| numbered(n, n))).await;
    wait_for_rows(&database, DEAD, 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 39).await;
    relay.stop().await.expect("the relay stops");
}

/// Two relays share the partitions; each judges for itself.
#[tokio::test(flavor = "multi_thread")]
async fn two_relays_judge_alike() {
    let (database, recorder) = (TestDatabase::create().await, faulty(|event| number(event) % 20 == 0));
    let start = || {
        relay(&database)
            .configured_handler("shop", recorder.handler(), |config| {
                strict(config);
                config.partitions = 4;
            })
            .start()
            .expect("the relay starts")
    };
    let (first, second) = (start(), start());
    // A suspect of a loop that gives its lease back is judged anew by the next owner, perhaps without others beside it.
    wait_for_rows(&database, "(select owner from subscriptions where owner is not null group by owner having count(*) = 2) o", 2)
        .await;
    database.insert_events((1..=200).map(|n| numbered(n, n))).await;
    // Others go on coming: one that is alone in its partition when it fails is held until another one shows whose fault it is.
    let next = std::sync::atomic::AtomicI64::new(201);
    eventually("each bad event is a dead letter", || async {
        let first = next.fetch_add(19, std::sync::atomic::Ordering::Relaxed);
        database.insert_events((first..first + 19).filter(|n| n % 20 != 0).map(|n| numbered(n, n))).await;
        (database.count(DEAD).await == 10).then_some(())
    })
    .await;
    let good = database.count("events").await - 10;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", good).await;
    first.stop().await.expect("the relay stops");
    second.stop().await.expect("the relay stops");
}

/// One table for every handler: the receiver's 404 is about one order and not about the address, and its 409 a repeat.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_answers_decides_before_anything_is_suspected() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|request| match request.json()["n"].as_i64() {
        Some(1) => Answer::status(404),
        Some(2) => Answer::status(409),
        Some(3) => Answer::status(422),
        _ => Answer::ok(),
    })
    .await;
    let answers = "answers = { \"404\" = \"permanent\", \"409\" = \"duplicate\", \"4xx\" = \"retry\" }\n";
    let running = Binary::relay(database.url(), &(hook(&receiver.url()) + answers)).spawn(&["run"]);
    database.insert_events((1..=3).map(|n| numbered(n, n))).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'not_found' and attempts = 1", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 1).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'exhausted' and attempts = 3", 1).await;
    running.terminate();
    running.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_settings_still_work_and_check_says_what_is_newer() {
    let entry = hook("http://127.0.0.1:1/") + "conflict = \"duplicate\"\nretry_client_errors = true\n";
    let checked = Binary::relay("postgres://nobody@127.0.0.1/none", &entry).run(&["check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(
        checked.stderr.contains("note: handlers.shop.conflict still works; the newer way is answers = { \"409\""),
        "{}",
        checked.stderr
    );
    assert!(checked.stderr.contains("handlers.shop.retry_client_errors still works"), "{}", checked.stderr);
    let wrong = hook("http://127.0.0.1:1/") + "answers = { \"40x\" = \"retry\", \"404\" = \"dead\" }\n";
    let refused = Binary::relay("postgres://nobody@127.0.0.1/none", &wrong).run(&["check"]).await;
    assert!(
        refused.stderr.contains("handlers.shop.answers.40x: is no status, expected a status such as \"404\""),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("handlers.shop.answers.404: got \"dead\", expected one of \"delivered\""),
        "{}",
        refused.stderr
    );
}
