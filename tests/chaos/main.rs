//! The history checker under faults: relays of the built binary that are killed, frozen, cut off and raced, networks, receivers and a
//! server that fail in every way, while writers commit in every way a transaction can go. Afterwards every event is accounted for.
//! A run follows from its seed as far as the scheduler allows. Without further word it is the short form, in which every kind of fault
//! happens once; `OUTBOXD_CHAOS_MINUTES` and `OUTBOXD_CHAOS_EVENTS` make it long, `OUTBOXD_CHAOS_SEED` repeats one.

mod checker;
mod clients;
mod clock;
mod database;
mod faults;
mod history;
mod ledger;
mod monitor;
mod plan;
mod receivers;
mod relays;
mod story;
mod summary;
mod writers;

#[path = "../it/feed/client.rs"]
#[allow(dead_code, reason = "the tests of the feed use more of it")]
mod feed_client;
#[path = "../it/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use checker::Violation;
use clock::{Clock, millis};
use database::Database;
use faults::{Faults, World};
use plan::{HANDLERS, Plan, STRICT};
use writers::Application;

/// Without progress for so long after everything was healed something is stuck: longer than any lease, pause or silence.
const STUCK_AFTER: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_is_lost_made_up_or_out_of_order() {
    let plan = Plan::from_environment();
    eprintln!("chaos: {}", plan.command());
    let (world, application) = begin(plan).await;
    let watching_ends = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(monitor::watch(plan, Arc::clone(&world), Arc::clone(&application), Arc::clone(&watching_ends)));

    let clients = clients::start(&world);
    run(plan, &world, &application).await;
    eprintln!("chaos: {} s, all writers have ended and all faults are healed", world.clock.elapsed().as_secs());
    let is_stuck = quiesce(&world, &application).await;
    let readings = clients.finish(i64::try_from(last_place(&world).await).expect("a place")).await;
    watching_ends.store(true, Ordering::Relaxed);
    let sightings = watching.await.expect("the monitor goes on to its end");
    if !is_stuck {
        futures_util::future::join_all(world.relays.iter().map(|relay| relay.stop())).await;
    }

    let history = history::read(&world, application.ledger.take(), readings, sightings, is_stuck).await;
    let violations = checker::check(&history);
    story::tell(&world, &history, &violations).await;
    summary::tell(plan, &world, &application, &history, violations.len());
    assert!(violations.is_empty(), "{}", verdict(&violations, plan));
}

/// Violations in the last words of a failed run; a log that is cut to its end still names them.
const IN_THE_VERDICT: usize = 8;

/// The last words of a failed run: how many violations, the first of them, and how to repeat it.
fn verdict(violations: &[Violation], plan: Plan) -> String {
    let first = violations.iter().take(IN_THE_VERDICT);
    let lines: String = first
        .map(|Violation { rule, at, what, .. }| format!("  {rule}, {}: {what}\n", at.map_or("no time".to_owned(), clock::seconds)))
        .collect();
    format!("{} violations, told in full above:\n{lines}{}", violations.len(), plan.command())
}

/// The server, the receivers and the relays, and an application that has not begun.
async fn begin(plan: Plan) -> (Arc<World>, Arc<Application>) {
    let clock = Clock::start();
    let database = Arc::new(Database::start().await);
    let receivers = receivers::start(plan.seed, clock).await;
    let relays = relays::start(&database, &receivers, plan.crowd).await;
    let application = Arc::new(Application::new(plan.seed, clock, Arc::clone(&database)));
    let writing = Arc::clone(&application);
    let newest = Box::new(move || writing.ledger.len());
    (Arc::new(World::new(plan, clock, database, relays, receivers, newest)), application)
}

/// Writes and disturbs until enough has happened.
async fn run(plan: Plan, world: &Arc<World>, application: &Arc<Application>) {
    let mut writers = writers::start(application);
    let mut faults = Faults::begin(world, plan.is_long);
    let minutes = Duration::from_secs_f64(plan.minutes * 60.0);
    while world.clock.elapsed() < minutes
        || application.committed.load(Ordering::Relaxed) < plan.events
        || !faults.have_all_happened()
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(writers.try_join_next().is_none(), "a writer ended before its time");
        faults.assert_that_all_go_on();
    }
    application.ends.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.expect("the transactions of the application are well formed");
    }
    faults.end(world).await;
}

/// The place of the last event, when every event of the log has one.
async fn last_place(world: &World) -> u64 {
    let began = world.clock.now();
    loop {
        let (owed, last) = (
            world.database.count("outbox.events e where not exists (select from outbox.feed f where f.seq = e.seq)").await,
            world.database.count("outbox.feed").await,
        );
        if owed == 0 {
            return last;
        }
        if world.clock.now() - began > millis(STUCK_AFTER) {
            eprintln!("chaos: {owed} events of the log have no place in the feed");
            return last;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

const OWED_BY_STRICT: &str = "outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription
   where s.handler = 'strict' and d.state in ('retrying', 'waiting')";
const DONE_BY_CROWD: &str = "outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription
   where s.handler like 'crowd-%' and d.state = 'delivered'";

/// Whether every handler of the crowd has everything. Not by its position: at rest that is stored every 15 s only.
async fn crowd_is_through(world: &World) -> bool {
    world.database.count(&format!("({} limit 1) missing", history::PASSED_OVER)).await == 0
}

/// A handler that has nothing but one event, and a 404 to it, holds that event until another one tells whose fault it is.
const TELLS_AFTER: Duration = Duration::from_secs(4);
/// More than there can be events of the unknown key.
const MOST_TOLD: usize = 300;

/// Waits until everybody has everything. `true`: something is stuck.
async fn quiesce(world: &World, application: &Arc<Application>) -> bool {
    let (mut before, mut moved) = (None, world.clock.now());
    let mut done_before = 0;
    let (mut strict_before, mut strict_moved, mut told) = (None, world.clock.now(), 0);
    loop {
        let unfinished = world.database.count("outbox.deliveries where state in ('retrying', 'waiting')").await;
        let sample = monitor::sample(world).await;
        let now = sample.map(|sample| (unfinished, sample.wanted, sample.settled));
        if unfinished == 0
            && sample.is_some_and(|sample| (0..HANDLERS.len()).all(|number| sample.settled[number] >= sample.wanted[number]))
            && crowd_is_through(world).await
        {
            return false;
        }
        let strict = sample.map(|sample| sample.settled[STRICT]);
        if strict != strict_before {
            (strict_before, strict_moved) = (strict, world.clock.now());
        } else if told < MOST_TOLD
            && world.clock.now() - strict_moved > millis(TELLS_AFTER)
            && (sample.is_some_and(|sample| sample.settled[STRICT] < sample.wanted[STRICT])
                || world.database.count(OWED_BY_STRICT).await > 0)
        {
            told += 1;
            strict_moved = world.clock.now();
            writers::add_one(application).await;
        }
        // What was added here is no sign of life.
        let now = now.map(|(unfinished, wanted, settled)| {
            (unfinished, wanted.iter().sum::<u64>() - settled.iter().sum::<u64>().min(wanted.iter().sum()))
        });
        if now != before {
            (before, moved) = (now, world.clock.now());
        } else if world.clock.now() - moved > millis(STUCK_AFTER) {
            // The crowd may be behind the others by thousands of events, each of which it counts before it is attempted.
            let done_by_crowd = world.database.count(DONE_BY_CROWD).await;
            if done_by_crowd != done_before {
                (done_before, moved) = (done_by_crowd, world.clock.now());
                continue;
            }
            eprintln!("chaos: stuck with (unfinished, owed) = {now:?}");
            return true;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
