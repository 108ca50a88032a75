//! Replays with relays that run: a broken endpoint mended, its dead letters grouped and delivered once more, by a throttled command that
//! is counted to the end, cancelled, resumed, killed, watched. The steps of an owner one by one: `dead_letters/replays.rs`.
//! A long file: each test needs a relay that runs, and they share how one is broken and mended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use outboxd::store::{self, Changed, DeliveryFilter, NewReplay, Replay};
use outboxd::{Notification, Reason, Verdict};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, Binary, NewRow, Receiver, Recorder, TestDatabase, eventually, number, quick_handler, relay};

fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

/// Records numbers from 1, in turn over the keys.
async fn insert(database: &TestDatabase, count: i64, keys: i64) {
    database.insert_events((1..=count).map(|number| numbered(number % keys, number))).await;
}

async fn wait_for_dead(database: &TestDatabase, count: i64) {
    eventually(&format!("{count} are dead letters"), || async {
        (database.count("deliveries where state = 'dead'").await == count).then_some(())
    })
    .await;
}

async fn start(database: &TestDatabase, replay: NewReplay) -> Uuid {
    let replay = NewReplay { id: Uuid::new_v4(), ..replay };
    store::start_replay(database.pool(), &replay, store::Actor::cli("ada")).await.expect("the replay is frozen");
    replay.id
}

async fn read(database: &TestDatabase, id: Uuid) -> Replay {
    store::read_replay(database.pool(), id).await.expect("the replays can be read").expect("it is there")
}

/// Waits until it has its outcome, written down by a relay.
async fn wait_until_over(database: &TestDatabase, id: Uuid) -> Replay {
    eventually("the replay is over", || async {
        let replay = read(database, id).await;
        (replay.is_over() && replay.ended_at.is_some()).then_some(replay)
    })
    .await
}

/// An endpoint that refuses every event until it is mended, each for a reason with its own number in it; `poison` it refuses always.
fn endpoint() -> (Recorder, Arc<AtomicBool>) {
    let works = Arc::new(AtomicBool::new(false));
    let mended = Arc::clone(&works);
    let recorder = Recorder::answering(move |notification, _| {
        if mended.load(SeqCst) && notification.event_type != "poison" {
            return Verdict::delivered();
        }
        Verdict::permanent(Reason::ClientError, format!("order {} not known", number(notification))).with_status(422)
    });
    (recorder, works)
}

fn assert_order(recorder: &Recorder, keys: i64) {
    for key in 0..keys {
        let numbers = recorder.numbers_of(&key.to_string());
        assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_endpoint_is_grouped_and_replayed_in_order_with_an_exact_outcome() {
    const COUNT: i64 = 2_000;
    let (database, (recorder, works)) = (TestDatabase::create().await, endpoint());
    let running = relay(&database)
        .configured_handler("billing", recorder.handler(), |config| {
            quick_handler(config);
            config.partitions = 2;
        })
        .start()
        .expect("the relay starts");
    insert(&database, COUNT, 37).await;
    // Some of each key are refused for good.
    database.insert_events((1..=5).map(|number| NewRow { event_type: "poison".to_owned(), ..numbered(number, number) })).await;
    wait_for_dead(&database, COUNT + 5).await;

    let groups = store::group_dead_letters(database.pool(), &DeliveryFilter::default(), 10).await.expect("they are grouped");
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!((groups[0].count, groups[0].status, groups[0].error.as_deref()), (2_005, Some(422), Some("order <n> not known")));

    works.store(true, SeqCst);
    let before = recorder.calls().len();
    let id = start(
        &database,
        NewReplay { filter: DeliveryFilter { group: groups[0].group, ..Default::default() }, ..Default::default() },
    )
    .await;
    // Dies during the replay, and is not part of it.
    database.insert_event(NewRow { event_type: "poison".to_owned(), ..numbered(1, 9_999) }).await;
    let over = wait_until_over(&database, id).await;

    assert_eq!((over.asked, over.delivered, over.failed, over.cancelled, over.dropped), (2_005, 2_000, 5, 0, 0));
    assert_eq!(over.state, "done");
    assert_order(&recorder, 37);
    assert_eq!(recorder.numbers().into_iter().collect::<BTreeSet<_>>(), (1..=COUNT).collect::<BTreeSet<_>>());
    wait_for_dead(&database, 6).await;
    let calls = recorder.calls().split_off(before);
    let is_live = |call: &&Notification| number(call) == 9_999;
    assert_eq!(calls.iter().filter(is_live).count(), 1, "once, and not again by the replay");
    assert!(calls.iter().filter(|call| !is_live(call)).all(|call| call.is_replay && call.attempt == 1));
    assert_eq!(calls.len(), 2_006, "each once");
    let kept = "attempts where outcome = 'permanent' and detail like 'order % not known'";
    assert_eq!(
        database.count(&format!("(select distinct seq from {kept}) a")).await,
        COUNT + 6,
        "the history keeps its first errors"
    );
    running.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_replay_is_cancelled_halfway_and_resumed() {
    const COUNT: i64 = 600;
    let (database, (recorder, works)) = (TestDatabase::create().await, endpoint());
    let running =
        relay(&database).configured_handler("billing", recorder.handler(), quick_handler).start().expect("the relay starts");
    insert(&database, COUNT, 7).await;
    wait_for_dead(&database, COUNT).await;
    works.store(true, SeqCst);
    let id = start(&database, NewReplay { rate: Some(200.0), ..NewReplay::default() }).await;
    recorder.wait_for(200).await;

    let cancelled = store::cancel_replay(database.pool(), id, store::Actor::cli("ada"), None).await.expect("it can be cancelled");

    let over = wait_until_over(&database, id).await;
    let Changed::Done(given_back) = cancelled else { panic!("it ran: {over:?}") };
    assert_eq!((over.cancelled, over.delivered, over.failed), (given_back, 600 - given_back, 0));
    assert!(given_back > 0, "something had not left");
    assert_eq!(recorder.delivered().len() as u64, over.delivered);
    let as_before =
        "deliveries where state = 'dead' and reason = 'client_error' and status = 422 and attempts = 1 and replay is null";
    assert_eq!(database.count(as_before).await.cast_unsigned(), given_back);

    let resumed = store::resume_replay(database.pool(), id, store::Actor::cli("ada")).await.expect("it can be resumed");
    assert_eq!(resumed, Changed::Done(given_back));
    let over = wait_until_over(&database, id).await;
    assert_eq!((over.asked, over.delivered, over.state.as_str()), (600, 600, "done"));
    assert_eq!(recorder.delivered().len(), 600, "each once");
    assert_order(&recorder, 7);
    running.stop().await.expect("the relay stops");
}

/// The log delivers again what the replay still held; the replay does not wait for it for ever, nor deliver it a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_ends_the_replays_of_what_it_takes_back() {
    let (database, (recorder, works)) = (TestDatabase::create().await, endpoint());
    let running =
        relay(&database).configured_handler("billing", recorder.handler(), quick_handler).start().expect("the relay starts");
    insert(&database, 300, 7).await;
    wait_for_dead(&database, 300).await;
    works.store(true, SeqCst);
    let id = start(&database, NewReplay { rate: Some(1.0), ..NewReplay::default() }).await;
    eventually("it has begun", || async { (read(&database, id).await.held < 300).then_some(()) }).await;

    let binary = Binary::with_config("").env("OUTBOXD_DATABASE_URL", database.url());
    let moved = binary.run(&["handlers", "rewind", "billing", "--to", "beginning", "--force", "--yes"]).await;
    assert_eq!(moved.code, Some(0), "{moved:?}");

    let over = wait_until_over(&database, id).await;
    assert_eq!((over.state.as_str(), over.asked, over.dropped + over.delivered), ("done", 300, 300), "{over:?}");
    assert!(over.dropped >= 290, "{over:?}");
    eventually("all are delivered", || async {
        (database.count("deliveries where state = 'delivered'").await == 300).then_some(())
    })
    .await;
    assert_eq!(recorder.delivered().iter().filter(|call| call.is_replay).count() as u64, over.delivered);
    running.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_who_replay_the_same_set_deliver_it_once() {
    let (database, (recorder, works)) = (TestDatabase::create().await, endpoint());
    let running =
        relay(&database).configured_handler("billing", recorder.handler(), quick_handler).start().expect("the relay starts");
    insert(&database, 300, 11).await;
    wait_for_dead(&database, 300).await;
    works.store(true, SeqCst);
    let binary = Binary::with_config("").env("OUTBOXD_DATABASE_URL", database.url());

    let command = ["replay", "--handler", "billing", "--yes", "--json"];
    let (one, other) = tokio::join!(binary.run(&command), binary.run(&command));

    let asked = |finished: &crate::support::Finished| {
        let document: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        document["replay"]["asked"].as_u64().unwrap_or(0)
    };
    assert_eq!((one.code, other.code), (Some(0), Some(0)), "{one:?} {other:?}");
    assert_eq!(asked(&one) + asked(&other), 300);
    assert_eq!(recorder.delivered().len(), 300);
    running.stop().await.expect("the relay stops");
}

/// Live events are not read while more than `max_parked` deliveries are unfinished, and a replay that fails filled that up.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_fails_does_not_keep_live_events_from_being_read() {
    let (database, works) = (TestDatabase::create().await, Arc::new(AtomicBool::new(false)));
    let mended = Arc::clone(&works);
    let recorder = Recorder::answering(move |notification, _| match (notification.is_replay, mended.load(SeqCst)) {
        (true, _) => Verdict::retry(Reason::ServerError, "still broken"),
        (false, true) => Verdict::delivered(),
        (false, false) => Verdict::permanent(Reason::ClientError, "broken"),
    });
    let running = relay(&database)
        .configured_handler("billing", recorder.handler(), |config| {
            config.max_parked = 40;
            // Neither the circuit nor the attempts end it.
            config.circuit.failure_rate = 1.0;
            config.retry.max_attempts = 1_000_000;
        })
        .start()
        .expect("the relay starts");
    insert(&database, 500, 500).await;
    wait_for_dead(&database, 500).await;
    works.store(true, SeqCst);
    let id = start(&database, NewReplay::default()).await;
    eventually("some of it has failed", || async {
        (database.count("deliveries where state = 'retrying' and attempts > 0").await > 0).then_some(())
    })
    .await;

    database.insert_events((1..=20).map(|number| numbered(format!("live{number}"), 1_000 + number))).await;
    recorder.wait_for(20).await;

    let replay = read(&database, id).await;
    assert!(replay.held >= 460 && replay.delivered == 0, "{replay:?}");
    running.stop().await.expect("the relay stops");
}

/// Seen with a handler whose retries were buried during an outage: the circuit waited for an event to probe with, the replay for the circuit.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_an_open_circuit_its_probe_when_nothing_else_can() {
    let (database, works) = (TestDatabase::create().await, Arc::new(AtomicBool::new(false)));
    let mended = Arc::clone(&works);
    let recorder = Recorder::answering(move |_, _| match mended.load(SeqCst) {
        true => Verdict::delivered(),
        false => Verdict::retry(Reason::ConnectionRefused, "connection refused"),
    });
    let running =
        relay(&database).configured_handler("billing", recorder.handler(), quick_handler).start().expect("the relay starts");
    let event = database.insert_events([numbered("a", 1)]).await[0];
    eventually("the circuit is open, and the event retrying", || async {
        let open = database.count("subscriptions where circuit <> 'closed'").await;
        (open == 1 && database.count("deliveries where state = 'retrying'").await == 1).then_some(())
    })
    .await;
    store::bury_event(database.pool(), "billing", event, store::Actor::cli("ada"), "it is worthless").await.expect("it is buried");

    let id = start(&database, NewReplay::default()).await;
    works.store(true, SeqCst);
    let over = wait_until_over(&database, id).await;

    assert_eq!((over.asked, over.delivered), (1, 1));
    assert_eq!(database.count("subscriptions where circuit = 'closed'").await, 1);
    running.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_when_the_relay_is_killed() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    receiver.answer_with(|_| Answer::status(422).body("not known"));
    let handler = format!("[[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n", receiver.url());
    let binary = Binary::relay(database.url(), &handler);
    let first = binary.spawn(&["run"]);
    insert(&database, 400, 13).await;
    wait_for_dead(&database, 400).await;
    receiver.answer_with(|_| Answer::ok());
    receiver.clear();
    let id = start(&database, NewReplay { rate: Some(150.0), ..NewReplay::default() }).await;
    receiver.wait_for(100).await;
    first.kill().await;

    let second = binary.spawn(&["run"]);
    let over = wait_until_over(&database, id).await;

    assert_eq!((over.asked, over.delivered, over.failed), (400, 400, 0));
    let received = receiver.received();
    assert!(received.iter().all(|request| request.header("webhook-replay") == Some("true")));
    let ids: BTreeSet<_> = received.iter().map(|request| request.header("webhook-id").map(str::to_owned)).collect();
    assert_eq!(ids.len(), 400);
    second.terminate();
    assert_eq!(second.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_replayed_in_order_and_takes_effect_once() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "create schema app;
             create table app.mended (is_mended boolean); insert into app.mended values (false);
             create table app.effects (place bigint generated always as identity, key text, n bigint);
             create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
             begin
                 if not (select is_mended from app.mended) then raise exception 'order % is not known', payload ->> 'n' using errcode = 'OX001'; end if;
                 insert into app.effects (key, n) values (key, (payload ->> 'n')::bigint);
             end $$",
        )
        .await;
    let handler = "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\n";
    let running = Binary::relay(database.url(), handler).spawn(&["run"]);
    insert(&database, 300, 7).await;
    wait_for_dead(&database, 300).await;
    database.execute("update app.mended set is_mended = true").await;

    let id = start(&database, NewReplay::default()).await;
    let over = wait_until_over(&database, id).await;

    assert_eq!((over.asked, over.delivered), (300, 300));
    assert_eq!(database.count("app.effects").await, 300);
    let disorder = "(select n, lag(n) over (partition by key order by place) as before from app.effects) e where before > n";
    assert_eq!(database.count(disorder).await, 0);
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_waits_for_the_outcome_and_leaves_it_running_when_interrupted() {
    let (database, (recorder, works)) = (TestDatabase::create().await, endpoint());
    let running =
        relay(&database).configured_handler("billing", recorder.handler(), quick_handler).start().expect("the relay starts");
    insert(&database, 20, 20).await;
    database.insert_event(NewRow { event_type: "poison".to_owned(), ..numbered(1, 21) }).await;
    wait_for_dead(&database, 21).await;
    works.store(true, SeqCst);
    let binary = Binary::with_config("").env("OUTBOXD_DATABASE_URL", database.url());

    let watched = binary.spawn(&["replay", "--type", "order.*", "--rate", "1/h", "--yes", "--json"]);
    let line = watched.wait_for_output("replaying 20 dead letters; replay ").await;
    let id = line.rsplit(' ').next().expect("the line ends with the id").to_owned();
    watched.wait_for_output("Ctrl-C leaves the replay running").await;
    watched.interrupt();
    let left = watched.finish().await;
    assert_eq!(left.code, Some(0), "{left:?}");
    assert!(left.stderr.contains("20 asked: 0 delivered, 0 failed again, 20 to leave"), "{}", left.stderr);
    assert!(left.stderr.contains(&format!("outboxd replays show {id} --follow")), "{}", left.stderr);
    assert_eq!(read(&database, id.parse().expect("it is an id")).await.state, "running");
    assert_eq!(binary.run(&["replays", "cancel", &id]).await.code, Some(0));

    // With one that fails again, to its end.
    let over = binary.run(&["dead-letters", "replay", "--all", "--yes"]).await;
    assert_eq!(over.code, Some(1), "{over:?}");
    assert!(over.stderr.contains("21 asked: 20 delivered, 1 failed again"), "{}", over.stderr);
    let detached = binary.run(&["replay", "--all", "--detach", "--yes"]).await;
    assert_eq!(detached.code, Some(0), "{detached:?}");
    running.stop().await.expect("the relay stops");
}

/// By an owner that was frozen past its lease: another has the subscription, and only that one releases.
#[tokio::test]
async fn only_the_owner_of_the_lease_releases() {
    let (database, (recorder, _)) = (TestDatabase::create().await, endpoint());
    let running =
        relay(&database).configured_handler("billing", recorder.handler(), quick_handler).start().expect("the relay starts");
    insert(&database, 3, 3).await;
    wait_for_dead(&database, 3).await;
    running.stop().await.expect("the relay stops");
    start(&database, NewReplay::default()).await;
    let epoch: i64 =
        sqlx::query_scalar("select epoch from subscriptions").fetch_one(database.pool()).await.expect("one subscription");
    let selection = store::Selection::new(&Default::default(), &outboxd::domain::Ordering::Aggregate, 1, 0);
    let release = async |epoch: i64| {
        let fence = store::Fence { subscription: 1, epoch };
        store::release_replays(database.pool(), fence, &selection, 1_000).await.expect("it is asked").released
    };

    assert_eq!(release(epoch - 1).await, 0);

    assert_eq!(release(epoch).await, 3);
    assert_eq!(release(epoch).await, 0);
}

/// However old: retention is for what is finished.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_never_removed_by_age() {
    let (database, (recorder, works)) = (TestDatabase::create().await, endpoint());
    let running = relay(&database)
        .configure(|config| {
            config.outbox.retention = Duration::from_millis(1);
            config.outbox.retention_interval = Duration::from_millis(20);
        })
        .configured_handler("billing", recorder.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    insert(&database, 5, 5).await;
    wait_for_dead(&database, 5).await;
    database.execute("update events set occurred_at = now() - interval '10 years'; update deliveries set handled_at = now() - interval '10 years'").await;
    // A neighbour that is finished is removed, so retention has been there.
    works.store(true, SeqCst);
    let neighbour = database.insert_event(numbered("neighbour", 6)).await;
    recorder.wait_for(1).await;
    eventually("retention was there", || async {
        (database.count(&format!("events where id = '{neighbour}'")).await == 0).then_some(())
    })
    .await;

    assert_eq!(database.count("deliveries d join events e using (seq) where d.state = 'dead'").await, 5);
    running.stop().await.expect("the relay stops");
}
