//! After each fault every handler goes on: while something is owed to it, something is settled again within a bound. What lasts longer
//! has stalled. Time in which the server or every relay was under a fault of its own does not count: nothing can be settled then.

use super::Violation;
use crate::clock::Moment;
use crate::faults::{Fault, Target};
use crate::history::History;
use crate::monitor::Sample;
use crate::plan::HANDLERS;

/// Leases, answers that never come, pauses between starts, further faults in between, and a busy machine.
const WITHIN: Moment = 45_000;

pub fn check(history: &History) -> Vec<Violation> {
    let stalls = history.faults.iter().flat_map(|fault| recoveries(history, fault).map(move |recovery| (fault, recovery)));
    let too_slow = stalls.filter(|(_, (_, took))| *took > WITHIN);
    too_slow
        .map(|(fault, (handler, took))| Violation {
            rule: "recovery",
            event: None,
            at: Some(fault.ended),
            what: format!("nothing was settled by {} for {took} ms after \"{}\"", HANDLERS[handler].name, fault.name),
        })
        .collect()
}

/// The longest that any handler needed, and after what.
pub fn slowest(history: &History) -> Option<(Moment, &Fault)> {
    let all = history.faults.iter().flat_map(|fault| recoveries(history, fault).map(move |(_, took)| (took, fault)));
    all.max_by_key(|(took, _)| *took)
}

/// Of each handler that was owed something when the fault ended, how long until something more was settled.
fn recoveries<'a>(history: &'a History, fault: &'a Fault) -> impl Iterator<Item = (usize, Moment)> + 'a {
    let first = history.samples.partition_point(|sample| sample.at < fault.ended);
    let samples = &history.samples[first..];
    (0..HANDLERS.len()).filter_map(move |handler| {
        let owed = |sample: &Sample| sample.wanted[handler] > sample.settled[handler];
        let before = samples.first().filter(|sample| owed(sample))?;
        let after = samples.iter().find(|sample| sample.settled[handler] > before.settled[handler]);
        let until = after.or(samples.last()).map_or(before.at, |sample| sample.at);
        Some((handler, until - before.at - hindered(history, before.at, until)))
    })
}

/// How much of this time nobody could settle anything.
fn hindered(history: &History, from: Moment, until: Moment) -> Moment {
    let is_for_all = |fault: &&Fault| matches!(fault.target, Target::Server | Target::AllRelays);
    let mut spans: Vec<(Moment, Moment)> =
        history.faults.iter().filter(is_for_all).map(|fault| (fault.began.max(from), fault.ended.min(until))).collect();
    spans.sort_unstable();
    let (mut sum, mut reached) = (0, from);
    for (began, ended) in spans {
        sum += ended.saturating_sub(began.max(reached));
        reached = reached.max(ended);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{fault, only_rule, sample_at, well};
    use crate::faults::Leaves;

    fn count(settled_again_at: Option<Moment>) -> usize {
        let mut history = well();
        history.faults.push(fault("relay: killed", Target::Relay(0), Leaves::LostOutcomes, 1_000, 2_100));
        let mut last = *history.samples.last().expect("there are samples");
        for at in (3_000..90_000).step_by(1_000) {
            last.wanted[1] = 7;
            last.settled[1] = if settled_again_at.is_some_and(|again| at >= again) { 7 } else { 6 };
            history.samples.push(Sample { at, ..last });
        }
        only_rule(&history, "recovery").len()
    }

    #[test]
    fn a_handler_that_does_not_go_on_after_a_fault_is_found() {
        assert_eq!(count(Some(9_000)), 0);
        assert_eq!(count(Some(80_000)), 1);
        assert_eq!(count(None), 1);
    }

    #[test]
    fn time_in_which_nobody_could_do_anything_does_not_count() {
        let lock = |began, ended| fault("table locked", Target::Server, Leaves::NoDoubt, began, ended);
        let mut history = well();
        history.faults = vec![lock(0, 5_000), lock(4_000, 10_000), lock(20_000, 21_000), lock(90_000, 95_000)];
        assert_eq!(hindered(&history, 2_000, 60_000), 9_000);
    }

    #[test]
    fn a_handler_that_is_owed_nothing_need_not_go_on() {
        let mut history = well();
        history.faults.push(fault("relay: killed", Target::Relay(0), Leaves::LostOutcomes, 1_000, 1_900));
        let quiet = (3_000..90_000).step_by(1_000).map(|at| sample_at(&history, at)).collect::<Vec<_>>();
        history.samples.extend(quiet);
        assert_eq!(only_rule(&history, "recovery").len(), 0);
    }
}
