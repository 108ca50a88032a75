//! Nothing is made up: what was sent is in the log, and its handler wants it. With the durability gate not even a crash of the server takes
//! back what was sent.

use std::collections::HashSet;

use super::Violation;
use crate::history::History;
use crate::plan::HANDLERS;

pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (receipts, plan) in history.receipts.iter().zip(HANDLERS) {
        let mut told = HashSet::new();
        for receipt in receipts {
            let what = match receipt.event {
                None => "phantom: an id that nobody has written",
                Some(event) if !history.is_stored(event) => "phantom: sent, and not in the log",
                Some(event) if !plan.wants(history.events[event as usize].key) => "sent to a handler that does not want it",
                Some(_) => continue,
            };
            if told.insert(receipt.event) {
                let what = format!("{what}, by {}", plan.name);
                found.push(Violation { rule: "phantoms", event: receipt.event, at: Some(receipt.at), what });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::{only_rule, receipt, well};
    use crate::ledger::Fate;

    #[test]
    fn what_was_rolled_back_must_not_be_sent() {
        let mut history = well();
        let event = crate::ledger::Event { key: 0, version: 0, fate: Fate::RolledBack, body: 1, at: 1_700 };
        history.events.push(event);
        history.stored.push(false);
        let receipt = receipt(&history, 6, 1, 1_750);
        history.receipts[1].push(receipt);
        assert_eq!(only_rule(&history, "phantoms").len(), 1);
    }

    #[test]
    fn what_a_crash_took_back_must_not_have_been_sent() {
        let mut history = well();
        history.events[5].fate = Fate::Unknown;
        history.stored[5] = false;
        // By the four handlers that want it.
        assert_eq!(only_rule(&history, "phantoms").len(), 4);
    }

    #[test]
    fn an_id_of_nobody_and_an_event_that_is_not_wanted_are_found() {
        let mut history = well();
        history.receipts[1][0].event = None;
        let unwanted = receipt(&history, 1, 2, 1_900);
        history.receipts[2].push(unwanted);
        let rules: Vec<_> = crate::checker::check(&history).into_iter().map(|violation| violation.rule).collect();
        assert_eq!(rules, ["loss", "phantoms", "phantoms"]);
    }
}
