//! Nothing is lost: what is in the log was settled by every handler that wants it, or is a dead letter there.

use std::collections::HashSet;

use super::Violation;
use crate::history::History;
use crate::ledger::EventNumber;
use crate::plan::HANDLERS;

pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (handler, plan) in HANDLERS.iter().enumerate() {
        let dead = history.dead.iter().filter(|dead| usize::from(dead.handler) == handler).map(|dead| dead.event);
        let accepted =
            history.receipts[handler].iter().filter(|receipt| receipt.given.is_accepted()).filter_map(|receipt| receipt.event);
        let done: HashSet<EventNumber> = accepted.chain(dead).collect();
        for (number, event) in (0..).zip(&history.events) {
            if history.is_stored(number) && plan.wants(event.key) && !done.contains(&number) {
                let what = format!("lost: in the log, never accepted by {} and no dead letter there", plan.name);
                found.push(Violation { rule: "loss", event: Some(number), at: Some(event.at), what });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::{only_rule, well};
    use crate::ledger::{Fate, Given};

    #[test]
    fn an_event_that_one_handler_never_got_is_lost() {
        let mut history = well();
        history.receipts[1].pop();
        assert_eq!(only_rule(&history, "loss").len(), 1);
    }

    #[test]
    fn an_event_that_was_refused_and_not_tried_again_is_lost() {
        let mut history = well();
        history.receipts[1][3].given = Given::Refused;
        assert_eq!(only_rule(&history, "loss").len(), 1);
    }

    #[test]
    fn what_nobody_knows_is_owed_if_it_is_in_the_log() {
        let mut history = well();
        history.events[5].fate = Fate::Unknown;
        assert_eq!(only_rule(&history, "loss").len(), 0);
        history.receipts[0].retain(|receipt| receipt.event != Some(5));
        assert_eq!(only_rule(&history, "loss").len(), 1);
    }
}
