//! Tells people what is wrong: the violation, the history of its event, the faults around it, and what the relays said about it or around
//! its time.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::checker::Violation;
use crate::clock::{Moment, seconds};
use crate::faults::World;
use crate::history::History;
use crate::ledger::{EventNumber, id_of};
use crate::plan::HANDLERS;
use crate::relays::time_of;

/// Violations of one rule that are told in full.
const TOLD: usize = 4;
/// Around a violation, for faults and for lines of logs.
const AROUND: Moment = 3_000;
const LINES: usize = 40;

pub async fn tell(world: &World, history: &History, violations: &[Violation]) {
    let mut told: HashMap<&str, usize> = HashMap::new();
    for violation in violations {
        let told = told.entry(violation.rule).or_default();
        *told += 1;
        if *told > TOLD {
            continue;
        }
        let id = violation.event.map(|event| id_of(history.seed, event));
        eprintln!(
            "VIOLATION of {} (seed {}) {}: {}",
            violation.rule,
            history.seed,
            id.map(|id| id.to_string()).unwrap_or_default(),
            violation.what
        );
        let around = violation.event.map_or_else(Vec::new, |event| tell_event(history, event));
        if let Some(id) = id {
            tell_rows(world, id).await;
        }
        let (from, to) = span(violation.at, &around);
        if violation.at.is_some() || !around.is_empty() {
            tell_faults(history, from, to);
            tell_logs(world, id, from, to).await;
        }
    }
    for (rule, count) in told {
        eprintln!("VIOLATIONS {count} of {rule}");
    }
    if !violations.is_empty() || std::env::var_os("OUTBOXD_TEST_KEEP").is_some() {
        keep_logs(world).await;
    }
}

fn span(at: Option<Moment>, around: &[Moment]) -> (Moment, Moment) {
    let times = || around.iter().copied().chain(at);
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    (first.saturating_sub(AROUND), last.min(first + 10 * AROUND) + AROUND)
}

/// What the ledgers know of an event and of its neighbours; gives the times at which something happened to it.
fn tell_event(history: &History, event: EventNumber) -> Vec<Moment> {
    let Some(own) = history.events.get(event as usize) else { return Vec::new() };
    eprintln!("    written: {own:?}, in the log: {}", history.is_stored(event));
    let mut times = vec![own.at];
    let is_near = |number: EventNumber| {
        number == event
            || history
                .events
                .get(number as usize)
                .is_some_and(|other| other.key != 0 && other.key == own.key && other.version.abs_diff(own.version) <= 1)
    };
    let mut receipts: Vec<_> = history.receipts.iter().flatten().filter(|receipt| receipt.event.is_some_and(is_near)).collect();
    receipts.sort_by_key(|receipt| receipt.at);
    for receipt in receipts {
        let number = receipt.event.expect("it was just looked at");
        times.extend((number == event).then_some(receipt.at));
        eprintln!(
            "    {} {} relay {} attempt {} version {}{}: {:?}{}",
            seconds(receipt.at),
            HANDLERS[usize::from(receipt.handler)].name,
            receipt.relay,
            receipt.attempt,
            history.events[number as usize].version,
            if number == event { "" } else { " (its neighbour)" },
            receipt.given,
            if receipt.is_replay { " replay" } else { "" },
        );
    }
    times
}

async fn tell_rows(world: &World, id: Uuid) {
    for sql in [
        "select 'event: ' || e::text from outbox.events e where id = '{id}'",
        "select 'delivery: ' || s.handler || ' ' || d::text from outbox.deliveries d join outbox.events e using (seq)
           join outbox.subscriptions s on s.id = d.subscription where e.id = '{id}'",
        "select 'attempt: ' || s.handler || ' ' || a::text from outbox.attempts a join outbox.events e using (seq)
           join outbox.subscriptions s on s.id = a.subscription where e.id = '{id}' order by a.at",
        "select 'effect: ' || f::text from chaos.effects f where event = '{id}' order by serial",
    ] {
        let sql = AssertSqlSafe(sql.replace("{id}", &id.to_string()));
        let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&world.database.pool).await.unwrap_or_default();
        rows.iter().for_each(|(row,)| eprintln!("    {row}"));
    }
}

fn tell_faults(history: &History, from: Moment, to: Moment) {
    for fault in history.faults.iter().filter(|fault| fault.began <= to && from <= fault.ended) {
        eprintln!("    fault {} - {} {:?}: {}", seconds(fault.began), seconds(fault.ended), fault.target, fault.name);
    }
}

async fn tell_logs(world: &World, id: Option<Uuid>, from: Moment, to: Moment) {
    let id = id.map(|id| id.to_string());
    for relay in &world.relays {
        let logs = relay.logs().await;
        let lines = logs.iter().flat_map(|log| log.lines()).filter(|line| {
            let names_it = id.as_ref().is_some_and(|id| line.contains(id.as_str()));
            let is_around = || time_of(line, world.clock).is_some_and(|at| (from..=to).contains(&at));
            names_it || (!line.contains("event_id=") && is_around())
        });
        lines.take(LINES).for_each(|line| eprintln!("    relay {}: {line}", relay.number));
    }
}

async fn keep_logs(world: &World) {
    let directory = std::env::temp_dir().join(format!("outboxd-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory can be written to");
    for relay in &world.relays {
        for (life, log) in relay.logs().await.iter().enumerate() {
            let file = directory.join(format!("relay-{}-{life}.log", relay.number));
            std::fs::write(file, log).expect("the temporary directory can be written to");
        }
    }
    eprintln!("the logs of the relays are in {}", directory.display());
}
