//! An event comes again after it was settled only for a reason: its answer was lost or late, the relay that had it died, was frozen
//! or lost its sessions before it had recorded it, or a person replayed it. Not more often than what can have been under way, and never
//! at the function, whose effect is in the transaction that records it.

use std::collections::{BTreeMap, HashMap};

use super::Violation;
use crate::clock::Moment;
use crate::faults::{Fault, Leaves, Target};
use crate::history::History;
use crate::ledger::{EventNumber, Given, Receipt};
use crate::plan::{CONCURRENCY, FUNCTION, HANDLERS, LEASE};

/// Why an event came again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Replayed,
    /// The receiver said so too late, or its answer was broken off.
    Unsaid,
    /// The network or the receiver lost the answer.
    LostAnswer,
    /// The relay that had the answer lost its memory.
    LostOutcome,
    /// It said so itself: it started over, or lost its lease.
    StartedOver,
    /// A relay that had begun with it stood still while another one took over and settled it, and sent it when it woke.
    SentOnWaking,
}

/// An outcome that a fault took away was at most so old: the flush interval, the flush itself, and a busy machine.
const UNRECORDED: Moment = 3_000;
/// A relay that has lost its lease or its sessions notices after at most so long.
const NOTICED: Moment = 1_500;
/// A request or an answer is on its way for at most so long while nothing is wrong.
const ON_ITS_WAY: Moment = 1_000;
/// What waits to be recorded while nothing is wrong: a quarter of a second of all there is.
const UNRECORDED_SHARE: f64 = 0.25;

pub fn check(history: &History) -> Vec<Violation> {
    let mut found: Vec<Violation> = repeated(history)
        .into_iter()
        .filter(|repeat| repeat.reason.is_none())
        .map(|repeat| Violation {
            rule: "duplicates",
            event: repeat.again.event,
            at: Some(repeat.first.at),
            what: format!(
                "came again to {} without a reason, {} ms after it was settled",
                HANDLERS[usize::from(repeat.again.handler)].name,
                repeat.again.at.saturating_sub(repeat.first.at)
            ),
        })
        .collect();
    let (count, bound) = (count_by_reason(history), bound(history));
    let lost =
        count.iter().filter(|(reason, _)| matches!(reason, Reason::LostOutcome | Reason::StartedOver)).map(|(_, count)| count);
    let lost: u64 = lost.sum();
    if lost > bound {
        let what = format!("{lost} events came again because outcomes were lost, at most {bound} can be explained");
        found.push(Violation { rule: "duplicates", event: None, at: None, what });
    }
    found
}

/// How many came again, and why.
pub fn count_by_reason(history: &History) -> BTreeMap<Reason, u64> {
    let mut count = BTreeMap::new();
    repeated(history).into_iter().filter_map(|repeat| repeat.reason).for_each(|reason| *count.entry(reason).or_default() += 1);
    count
}

struct Repeat<'a> {
    first: &'a Receipt,
    again: &'a Receipt,
    reason: Option<Reason>,
}

fn repeated(history: &History) -> Vec<Repeat<'_>> {
    let mut repeats = Vec::new();
    for receipts in &history.receipts {
        let mut settled: HashMap<EventNumber, &Receipt> = HashMap::new();
        for again in receipts.iter().filter(|receipt| receipt.event.is_some()) {
            let number = again.event.expect("it was just filtered");
            if let Some(first) = settled.get(&number) {
                repeats.push(Repeat { first, again, reason: reason(history, first, again) });
            }
            // The newest one is what the next has to be explained by.
            if again.given.is_final() {
                settled.insert(number, again);
            }
        }
    }
    repeats
}

fn reason(history: &History, first: &Receipt, again: &Receipt) -> Option<Reason> {
    if usize::from(again.handler) == FUNCTION {
        return None;
    }
    if first.given == Given::AcceptedUnsaid {
        return Some(Reason::Unsaid);
    }
    if again.is_replay && first.given == Given::Poison {
        return Some(Reason::Replayed);
    }
    let answers = |fault: &&Fault| fault.leaves == Leaves::LostAnswers && fault.target == Target::Receiver(first.handler);
    // The answer was still on its way when the fault began, or the request came through it.
    if history
        .faults
        .iter()
        .filter(answers)
        .any(|fault| fault.began <= first.at + ON_ITS_WAY && first.at <= fault.ended + ON_ITS_WAY)
    {
        return Some(Reason::LostAnswer);
    }
    let outcomes = |fault: &&Fault| fault.leaves == Leaves::LostOutcomes && hits(fault.target, first.relay);
    if history.faults.iter().filter(outcomes).any(|fault| took_away(fault.began, fault.ended, first, again)) {
        return Some(Reason::LostOutcome);
    }
    let asleep = |fault: &&Fault| fault.leaves == Leaves::LostOutcomes && fault.target == Target::Relay(again.relay);
    if again.relay != first.relay && history.faults.iter().filter(asleep).any(|fault| slept_through(fault, first, again)) {
        return Some(Reason::SentOnWaking);
    }
    let own = |restart: &&crate::history::Restart| restart.relay == first.relay || restart.relay == again.relay;
    let is_explained = history.restarts.iter().filter(own).any(|restart| took_away(restart.at, restart.at, first, again));
    is_explained.then_some(Reason::StartedOver)
}

/// What a frozen relay had begun to send nobody can call back.
fn slept_through(fault: &Fault, first: &Receipt, again: &Receipt) -> bool {
    (fault.began..=fault.ended).contains(&first.at) && again.at <= fault.ended + ON_ITS_WAY
}

fn hits(target: Target, relay: u8) -> bool {
    matches!(target, Target::AllRelays | Target::Server) || target == Target::Relay(relay)
}

/// What happened between `began` and `ended` can have taken away the outcome of the first. Of a relay that is frozen or cut off, whatever
/// it begins before it notices counts, too.
fn took_away(began: Moment, ended: Moment, first: &Receipt, again: &Receipt) -> bool {
    began <= again.at && began <= first.at + UNRECORDED && first.at <= ended + NOTICED
}

/// Per fault: what is in flight, what waits to be recorded, and what a relay goes on doing until its lease is over.
fn bound(history: &History) -> u64 {
    let took = history.samples.last().map_or(1.0, |sample| f64::from(sample.at.max(1_000)) / 1_000.0);
    let rate = history.receipts.iter().map(Vec::len).sum::<usize>() as f64 / took;
    let loops: usize = HANDLERS.iter().map(|handler| handler.partitions).sum();
    let of = |seconds: f64| (CONCURRENCY * loops) as u64 + (rate * (UNRECORDED_SHARE + seconds.min(LEASE.as_secs_f64()))) as u64;
    let faults = history.faults.iter().filter(|fault| fault.leaves == Leaves::LostOutcomes);
    let by_faults: u64 = faults.map(|fault| of(f64::from(fault.ended.saturating_sub(fault.began)) / 1_000.0)).sum();
    by_faults + history.restarts.len() as u64 * of(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{fault, only_rule, receipt, well};
    use crate::history::Restart;

    /// Event 4, accepted at 1410, comes again at 1460.
    fn again(handler: usize) -> History {
        let mut history = well();
        let receipt = receipt(&history, 4, handler, 1_460);
        history.receipts[handler].push(receipt);
        history
    }

    fn with(mut history: History, target: Target, leaves: Leaves, began: Moment, ended: Moment) -> usize {
        history.faults.push(fault("a fault", target, leaves, began, ended));
        only_rule(&history, "duplicates").len()
    }

    #[test]
    fn what_comes_again_without_a_reason_is_found() {
        assert_eq!(only_rule(&again(0), "duplicates").len(), 1);
    }

    #[test]
    fn a_death_of_its_relay_at_the_time_is_a_reason_and_that_of_another_or_long_after_is_none() {
        assert_eq!(with(again(0), Target::Relay(0), Leaves::LostOutcomes, 1_420, 1_430), 0);
        assert_eq!(with(again(0), Target::Relay(1), Leaves::LostOutcomes, 1_420, 1_430), 1);
        assert_eq!(with(again(0), Target::Relay(0), Leaves::LostOutcomes, 1_470, 1_480), 1);
        assert_eq!(with(again(0), Target::Server, Leaves::LostOutcomes, 1_420, 1_430), 0);
        let mut late = again(0);
        late.receipts[0].last_mut().expect("it is there").at = 60_000;
        assert_eq!(with(late, Target::Relay(0), Leaves::LostOutcomes, 50_000, 51_000), 1);
    }

    #[test]
    fn an_orderly_stop_is_no_reason() {
        assert_eq!(with(again(0), Target::Relay(0), Leaves::NoDoubt, 1_420, 1_430), 1);
    }

    #[test]
    fn an_answer_that_was_lost_or_late_is_a_reason() {
        assert_eq!(with(again(0), Target::Receiver(0), Leaves::LostAnswers, 1_300, 1_450), 0);
        assert_eq!(with(again(0), Target::Receiver(1), Leaves::LostAnswers, 1_300, 1_450), 1);
        let mut unsaid = again(0);
        let place = unsaid.receipts[0].iter().position(|receipt| receipt.event == Some(4)).expect("it is there");
        unsaid.receipts[0][place].given = Given::AcceptedUnsaid;
        assert_eq!(only_rule(&unsaid, "duplicates").len(), 0);
    }

    #[test]
    fn a_relay_that_said_that_it_started_over_is_a_reason() {
        let mut history = again(0);
        history.restarts.push(Restart { relay: 0, at: 1_440 });
        assert_eq!(only_rule(&history, "duplicates").len(), 0);
        assert_eq!(count_by_reason(&history), [(Reason::StartedOver, 1)].into());
    }

    #[test]
    fn a_relay_that_slept_while_another_settled_it_may_send_it_on_waking_and_not_later() {
        let by_another = |at: Moment| {
            let mut history = again(0);
            let last = history.receipts[0].last_mut().expect("it is there");
            (last.relay, last.at) = (1, at);
            with(history, Target::Relay(1), Leaves::LostOutcomes, 1_000, 1_450)
        };
        assert_eq!((by_another(1_460), by_another(5_000)), (0, 1));
        let mut own = again(0);
        own.receipts[0].last_mut().expect("it is there").relay = 1;
        assert_eq!(with(own, Target::Relay(2), Leaves::LostOutcomes, 1_000, 1_450), 1);
    }

    #[test]
    fn no_reason_is_good_enough_for_the_function() {
        assert_eq!(with(again(FUNCTION), Target::Relay(0), Leaves::LostOutcomes, 1_420, 1_430), 1);
    }

    #[test]
    fn a_replay_explains_what_was_refused_for_good_and_not_what_was_accepted() {
        let mut history = again(0);
        history.receipts[0].last_mut().expect("it is there").is_replay = true;
        assert_eq!(only_rule(&history, "duplicates").len(), 1);
        let place = history.receipts[0].iter().position(|receipt| receipt.event == Some(4)).expect("it is there");
        history.receipts[0][place].given = Given::Poison;
        assert_eq!(only_rule(&history, "duplicates").len(), 0);
    }

    #[test]
    fn more_than_can_have_been_under_way_is_too_much() {
        let mut history = well();
        history.faults.push(fault("relay: killed", Target::Relay(0), Leaves::LostOutcomes, 1_420, 1_420));
        for _ in 0..2_000 {
            let receipt = receipt(&history, 4, 1, 1_460);
            history.receipts[1].push(receipt);
        }
        assert_eq!(only_rule(&history, "duplicates").len(), 1);
    }
}
