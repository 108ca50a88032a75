//! A small history in which everything is well, for the tests of the rules to break.

use crate::clock::Moment;
use crate::faults::{Fault, Leaves, Target};
use crate::history::{History, Move};
use crate::ledger::{Event, EventNumber, Fate, Given, Receipt, hash};
use crate::monitor::Sample;
use crate::plan::{FUNCTION, HANDLERS, is_poison};

use super::{Violation, check};

/// The seed with which none of the few events is poison for anybody.
fn harmless_seed() -> u64 {
    (0..).find(|seed| (0..8).all(|event| (0..HANDLERS.len()).all(|handler| !is_poison(*seed, event, handler)))).expect("most are")
}

/// Two keys with three events each, committed one after the other and accepted by every handler that wants them.
pub fn well() -> History {
    let mut history = History { seed: harmless_seed(), receipts: vec![Vec::new(); HANDLERS.len()], ..History::default() };
    for (number, (key, version)) in [(4, 1), (5, 1), (4, 2), (5, 2), (4, 3), (5, 3)].into_iter().enumerate() {
        let at = 1_000 + number as Moment * 100;
        history.events.push(Event { key, version, fate: Fate::Committed, body: hash(&[number as u8]), at });
        history.stored.push(true);
        for (handler, plan) in HANDLERS.iter().enumerate().filter(|(_, plan)| plan.wants(key)) {
            let receipt = receipt(&history, number as EventNumber, handler, at + 10);
            history.receipts[handler].push(receipt);
            let _ = plan;
        }
    }
    history.samples = vec![sample_at(&history, 1_000), sample_at(&history, 2_000)];
    history
}

pub fn receipt(history: &History, event: EventNumber, handler: usize, at: Moment) -> Receipt {
    let body = history.events[event as usize].body;
    Receipt { event: Some(event), handler: handler as u8, relay: 0, attempt: 1, body, given: Given::Accepted, at, is_replay: false }
}

/// What each handler wants and has by then.
pub fn sample_at(history: &History, at: Moment) -> Sample {
    let mut sample = Sample { at, wanted: [0; HANDLERS.len()], settled: [0; HANDLERS.len()] };
    for (handler, plan) in HANDLERS.iter().enumerate() {
        sample.wanted[handler] = history.events.iter().filter(|event| plan.wants(event.key) && event.at <= at).count() as u64;
        sample.settled[handler] = history.receipts[handler].iter().filter(|receipt| receipt.at <= at).count() as u64;
    }
    sample
}

pub fn fault(name: &str, target: Target, leaves: Leaves, began: Moment, ended: Moment) -> Fault {
    Fault { name: name.to_owned(), target, leaves, began, ended }
}

/// Relay 0 takes a free subscription.
pub fn taken() -> Move {
    Move {
        at: 100,
        role: "relay_0".to_owned(),
        subscription: 1,
        epoch_before: 0,
        epoch: 1,
        owner_before: None,
        owner: Some("a".to_owned()),
        lease_before: 0,
        read_before: 5,
        read_to: 5,
        is_position: false,
        same_window: false,
        window_before: None,
        window: None,
    }
}

/// It moves the position.
pub fn moved() -> Move {
    let taken = taken();
    Move {
        at: 200,
        epoch_before: 1,
        owner_before: taken.owner.clone(),
        read_to: 9,
        is_position: true,
        lease_before: 3_100,
        ..taken
    }
}

pub fn only_rule(history: &History, rule: &str) -> Vec<Violation> {
    let found = check(history);
    assert!(found.iter().all(|violation| violation.rule == rule), "{found:?}");
    found
}

#[test]
fn a_history_in_which_all_is_well_has_no_violation() {
    let mut history = well();
    history.moves = vec![taken(), moved()];
    assert_eq!(check(&history), []);
    assert_eq!(history.receipts[FUNCTION].len(), 6);
}
