//! The end of a run in figures: events, deliveries, faults by name, what came again and why, the verdict.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::checker::{count_by_reason, slowest};
use crate::clients::CLIENTS;
use crate::clock::seconds;
use crate::faults::World;
use crate::history::History;
use crate::ledger::{Fate, Given};
use crate::plan::{HANDLERS, Plan};
use crate::writers::Application;

pub fn tell(plan: Plan, world: &World, application: &Application, history: &History, violations: usize) {
    let took = world.clock.elapsed();
    eprintln!("chaos: seed {}, {:.1} s", plan.seed, took.as_secs_f64());
    tell_events(application, history, took.as_secs_f64());
    for (handler, receipts) in HANDLERS.iter().zip(&history.receipts) {
        let count = |wanted: fn(Given) -> bool| receipts.iter().filter(|receipt| wanted(receipt.given)).count();
        eprintln!(
            "  {:<10} {} requests, {} accepted, {} refused for good, {} failed",
            handler.name,
            receipts.len(),
            count(Given::is_accepted),
            count(|given| given == Given::Poison),
            count(|given| !given.is_final()),
        );
    }
    eprintln!("  crowd      {} handlers", world.crowd);
    for (client, reading) in CLIENTS.iter().zip(&history.readings) {
        eprintln!("  client {:<16} {} events over {} connections", client.name, reading.seen.len(), reading.connections);
    }
    tell_faults(world, history);
    let repeats = count_by_reason(history);
    eprintln!("  came again: {}", repeats.values().sum::<u64>());
    repeats.iter().for_each(|(reason, count)| eprintln!("  {count:>8} {reason:?}"));
    eprintln!("  dead letters left: {}; relays that started over by themselves: {}", history.dead.len(), history.restarts.len());
    if let Some((took, fault)) = slowest(history) {
        eprintln!("  slowest recovery of a handler: {} after \"{}\"", seconds(took), fault.name);
    }
    let verdict = if violations == 0 { "nothing is wrong".to_owned() } else { format!("{violations} VIOLATIONS") };
    eprintln!("  verdict: {verdict}");
}

fn tell_events(application: &Application, history: &History, took: f64) {
    let stored = history.stored.iter().filter(|stored| **stored).count();
    let count = |fate: Fate| history.events.iter().filter(|event| event.fate == fate).count();
    let receipts: usize = history.receipts.iter().map(Vec::len).sum();
    eprintln!(
        "  {stored} events in the log ({:.0}/s) of {} transactions; {receipts} deliveries",
        stored as f64 / took,
        application.transactions.load(Ordering::Relaxed)
    );
    eprintln!(
        "  {} rolled back, {} commits without an answer, {} prepared transactions, {} events taken back by crashes",
        count(Fate::RolledBack),
        application.lost_answers.load(Ordering::Relaxed),
        application.prepared.load(Ordering::Relaxed),
        (0..).zip(&history.events).filter(|(number, event)| event.fate == Fate::Unflushed && !history.is_stored(*number)).count(),
    );
}

fn tell_faults(world: &World, history: &History) {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    history.faults.iter().for_each(|fault| *by_name.entry(&fault.name).or_default() += 1);
    eprintln!("  {} faults:", history.faults.len());
    by_name.iter().for_each(|(name, count)| eprintln!("  {count:>8} {name}"));
    for (name, count) in world.missed() {
        eprintln!("  {count:>8} did not come about: {name}");
    }
}
