//! Looks at the run about once a second: how far each handler is, sessions that stay idle in a transaction, relays that ended unasked.
//! Holds the writers back while the slowest handler is too far behind, so that the end can be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Moment;
use crate::faults::World;
use crate::ledger::number_of;
use crate::plan::{FUNCTION, HANDLERS, Plan, RECEIVERS, STRICT};
use crate::writers::Application;

/// How far everybody was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub at: Moment,
    /// Events in the log that a handler wants.
    pub wanted: [u64; HANDLERS.len()],
    /// Of these, what is settled there.
    pub settled: [u64; HANDLERS.len()],
}

/// A session of a relay that was idle in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    pub relay: u8,
    pub pid: i32,
    pub since: Moment,
    pub until: Moment,
}

/// What was seen.
#[derive(Default)]
pub struct Sightings {
    pub samples: Vec<Sample>,
    pub idle: Vec<Idle>,
    pub complaints: Vec<String>,
}

const EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY: u32 = 10_000;

/// Goes on until `ends`.
pub async fn watch(plan: Plan, world: Arc<World>, application: Arc<Application>, ends: Arc<AtomicBool>) -> Sightings {
    let mut sightings = Sightings::default();
    let (mut told, mut pause) = (0, EVERY);
    let mut dead_pids = vec![None; world.relays.len()];
    while !ends.load(Ordering::Relaxed) {
        tokio::time::sleep(pause).await;
        let began = world.clock.elapsed();
        world.receivers.iter().for_each(|receiver| receiver.forget());
        if let Some(sample) = sample(&world).await {
            let behind = (0..HANDLERS.len()).map(|number| sample.wanted[number].saturating_sub(sample.settled[number])).max();
            application.waits.store(behind.unwrap_or(0) > plan.backlog, Ordering::Relaxed);
            sightings.samples.push(sample);
            if sample.at >= told + TELL_EVERY {
                told = sample.at;
                tell(plan, &world, &application, &sample);
            }
        }
        look_for_idle(&world, &mut sightings.idle).await;
        look_for_the_dead(&world, &mut dead_pids, &mut sightings.complaints).await;
        // Counting a million rows takes its time, which should not be that of the relays.
        pause = EVERY.max((world.clock.elapsed() - began) * 10).min(EVERY * 5);
    }
    sightings
}

/// Through one statement, so that no handler is ahead of the log. `None` while the server is down.
pub async fn sample(world: &World) -> Option<Sample> {
    let sql = "select (select count(*) from chaos.effects)
                    + (select count(*) from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription
                        where s.handler = 'project' and d.state = 'dead'),
                      array(select e.id from outbox.deliveries d join outbox.subscriptions s on s.id = d.subscription
                              join outbox.events e on e.seq = d.seq
                             where s.handler = 'strict' and d.state = 'dead' and d.reason in ('not_found', 'exhausted')),
                      count(*), count(*) filter (where type = 'counter.audited') from outbox.events";
    let (function, unknown, all, audited): (i64, Vec<Uuid>, i64, i64) =
        sqlx::query_as(sql).fetch_one(&world.database.pool).await.ok()?;
    let mut settled = [0; HANDLERS.len()];
    for (number, receiver) in world.receivers.iter().enumerate().take(RECEIVERS) {
        settled[number] = receiver.arrivals().settled_count;
    }
    // A 404 settles nothing; the dead letter that comes of it does. An event whose acceptance was lost on its way may become one, too: it
    // counts once, or the handler would look finished while it owes another event.
    let strict = world.receivers[STRICT].arrivals();
    let is_new = |id: &Uuid| number_of(world.seed, *id).is_some_and(|event| !strict.is_settled(event));
    settled[STRICT] += unknown.iter().filter(|id| is_new(id)).count() as u64;
    drop(strict);
    settled[FUNCTION] = u64::try_from(function).unwrap_or(0);
    let wanted = HANDLERS.map(|handler| u64::try_from(if handler.is_filtered { audited } else { all }).unwrap_or(0));
    Some(Sample { at: world.clock.now(), wanted, settled })
}

fn tell(plan: Plan, world: &World, application: &Application, sample: &Sample) {
    eprintln!(
        "chaos: {:>5} s, seed {}: {} events committed, settled {}, {} faults",
        sample.at / 1_000,
        plan.seed,
        application.committed.load(Ordering::Relaxed),
        HANDLERS
            .iter()
            .zip(sample.settled)
            .map(|(handler, settled)| format!("{} {settled}", handler.name))
            .collect::<Vec<_>>()
            .join(", "),
        world.fault_count(),
    );
}

async fn look_for_idle(world: &World, seen: &mut Vec<Idle>) {
    let sql = "select right(usename, 1)::int, pid, (extract(epoch from state_change) * 1000000)::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint
                 from pg_stat_activity where usename like 'relay\\_%' and state like 'idle in transaction%'
                  and clock_timestamp() - state_change > interval '2 s'";
    let rows: Result<Vec<(i32, i32, i64, i64)>, _> = sqlx::query_as(sql).fetch_all(&world.database.pool).await;
    for (relay, pid, since, until) in rows.unwrap_or_default() {
        let (since, until) = (world.clock.at_micros(since), world.clock.at_micros(until));
        match seen.iter_mut().rev().find(|idle| idle.pid == pid && idle.since == since) {
            Some(idle) => idle.until = until,
            None => seen.push(Idle { relay: relay as u8, pid, since, until }),
        }
    }
}

/// A relay that is not there although nobody has ended it, seen twice: the one in between may be buried just now.
async fn look_for_the_dead(world: &World, before: &mut [Option<u32>], complaints: &mut Vec<String>) {
    for (relay, before) in world.relays.iter().zip(before) {
        let now = relay.dead_pid().await;
        if now.is_some() && now == *before {
            relay.bury().await;
            let log = relay.logs().await;
            let last: Vec<&str> = log.last().map(|log| log.lines().rev().take(3).collect()).unwrap_or_default();
            complaints.push(format!("relay {} ended unasked: {}", relay.number, last.join(" | ")));
            relay.start().await;
        }
        *before = now;
    }
}
