//! Per handler and key, nothing is even tried before everything older of it was accepted or refused for good. Counters have no gaps, so
//! the next one is known. What comes again, late or by a replay, is older and disturbs nothing.

use std::collections::HashMap;

use super::Violation;
use crate::history::History;
use crate::ledger::Given;
use crate::plan::{FUNCTION, HANDLERS, is_poison, is_unknown};

pub fn check(history: &History) -> Vec<Violation> {
    let by_version = history.by_version();
    let mut found = Vec::new();
    for (handler, plan) in HANDLERS.iter().enumerate().filter(|(_, plan)| plan.keeps_order) {
        let mut newest: HashMap<u16, u32> = HashMap::new();
        for receipt in &history.receipts[handler] {
            let Some(event) = receipt.event.filter(|event| history.is_stored(*event)) else { continue };
            let (key, version) = (history.events[event as usize].key, history.events[event as usize].version);
            if key == 0 {
                continue;
            }
            let newest = newest.entry(key).or_default();
            // The function leaves no trace of what it refused.
            let refused = |version| {
                handler == FUNCTION && by_version.get(&(key, version)).is_some_and(|event| is_poison(history.seed, *event, handler))
            };
            if (*newest + 1..version).any(|version| !refused(version)) {
                let what = format!("out of order at {}: version {version} of key {key} came after {newest}", plan.name);
                found.push(Violation { rule: "order", event: Some(event), at: Some(receipt.at), what });
            }
            // Which 404 was the last one only the dead letter tells.
            if receipt.given.is_final() || (is_unknown(key, handler) && receipt.given == Given::NotFound) {
                *newest = (*newest).max(version);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::checker::check;
    use crate::checker::sample::{only_rule, receipt, well};
    use crate::ledger::{Given, Receipt};
    use crate::plan::{FUNCTION, STRICT, UNKNOWN_KEY};

    #[test]
    fn a_version_that_comes_before_its_predecessor_is_found() {
        for handler in [0, FUNCTION] {
            let mut history = well();
            history.receipts[handler].swap(0, 2);
            assert_eq!(only_rule(&history, "order").len(), 1, "{handler}");
        }
    }

    #[test]
    fn a_version_that_is_tried_while_its_predecessor_still_fails_is_found() {
        let mut history = well();
        history.receipts[0][0].given = Given::Refused;
        let again = receipt(&history, 0, 0, 1_215);
        history.receipts[0].insert(3, again);
        assert_eq!(only_rule(&history, "order").len(), 1);
    }

    #[test]
    fn of_an_unknown_key_a_later_event_is_not_tried_before_an_earlier_one() {
        let mut history = well();
        for event in [0, 2, 4] {
            history.events[event].key = UNKNOWN_KEY;
        }
        let of_key = |receipt: &&mut Receipt| receipt.event.is_some_and(|event| event % 2 == 0);
        history.receipts[STRICT].iter_mut().filter(of_key).for_each(|receipt| receipt.given = Given::NotFound);
        let order = |history: &_| check(history).into_iter().filter(|violation| violation.rule == "order").count();
        assert_eq!(order(&history), 0);
        history.receipts[STRICT].swap(0, 2);
        assert_eq!(order(&history), 1);
    }

    #[test]
    fn where_no_order_is_kept_none_is_asked_for() {
        let mut history = well();
        history.receipts[1].reverse();
        assert_eq!(only_rule(&history, "order").len(), 0);
    }

    #[test]
    fn a_predecessor_that_was_refused_for_good_holds_up_nobody_and_its_replay_may_come_late() {
        let mut history = well();
        history.receipts[0][0].given = Given::Poison;
        let mut replay = receipt(&history, 0, 0, 1_900);
        replay.is_replay = true;
        history.receipts[0].push(replay);
        assert_eq!(only_rule(&history, "order").len(), 0);
    }
}
