//! A dead letter is terminal and complete: it was refused for good, its row says why and after how many attempts, and its history has
//! the attempt that decided it. What is neither poison nor of a key that the receiver never knows is no dead letter, whatever else
//! went wrong; what is of such a key says so, and not that its attempts were used up, if the last of them was answered 404.

use super::Violation;
use crate::history::{History, Why};
use crate::plan::{HANDLERS, is_poison, is_unknown};

pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for dead in &history.dead {
        let name = HANDLERS[usize::from(dead.handler)].name;
        let mut say = |what: String| {
            let at = history.events.get(dead.event as usize).map(|event| event.at);
            found.push(Violation { rule: "dead letters", event: Some(dead.event), at, what });
        };
        let key = history.events.get(dead.event as usize).map_or(0, |event| event.key);
        let is_unknown = is_unknown(key, usize::from(dead.handler));
        if !is_unknown && !is_poison(history.seed, dead.event, usize::from(dead.handler)) {
            say(format!("is a dead letter of {name}, which never refused it for good"));
        }
        match dead.last_final {
            None => say(format!("is a dead letter of {name} without the attempt that decided it in its history")),
            Some(last) if last != dead.attempts => {
                say(format!("is a dead letter of {name} after {} attempts, by its history after {last}", dead.attempts));
            }
            Some(_) if dead.reason == Why::Untold => say(format!("is a dead letter of {name} without a reason")),
            Some(_) if dead.reason != expected(is_unknown, dead.was_unknown) => {
                say(format!(
                    "is a dead letter of {name} with a wrong reason, {:?}; its key is unknown there: {is_unknown}",
                    dead.reason
                ));
            }
            Some(_) => {}
        }
    }
    found
}

/// An outage may take the last attempt from an event of an unknown key: that one then decided.
fn expected(is_unknown: bool, was_unknown: bool) -> Why {
    match (is_unknown, was_unknown) {
        (true, true) => Why::NotFound,
        (true, false) => Why::Exhausted,
        (false, _) => Why::Other,
    }
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::{receipt, well};
    use crate::checker::{Violation, check};
    use crate::history::{DeadLetter, History, Why};
    use crate::ledger::{Event, Given, Receipt};
    use crate::plan::{FUNCTION, HANDLERS, STRICT, UNKNOWN_KEY, is_poison};

    /// Event 4 is poison for the first handler only, and a dead letter there.
    fn buried() -> History {
        let is_wanted = |seed: &u64| {
            (0..8).all(|event| (0..HANDLERS.len()).all(|handler| is_poison(*seed, event, handler) == ((event, handler) == (4, 0))))
        };
        let mut history = well();
        history.seed = (0..).find(is_wanted).expect("there is such a seed");
        history.dead.push(DeadLetter {
            event: 4,
            handler: 0,
            attempts: 1,
            last_final: Some(1),
            reason: Why::Other,
            was_unknown: false,
        });
        let refused = history.receipts[0].iter_mut().find(|receipt| receipt.event == Some(4)).expect("it was sent");
        refused.given = Given::Poison;
        history
    }

    fn broken(change: impl Fn(&mut DeadLetter)) -> Vec<Violation> {
        let mut history = buried();
        change(&mut history.dead[0]);
        let found = check(&history);
        assert!(found.iter().all(|violation| violation.rule == "dead letters"), "{found:?}");
        found
    }

    #[test]
    fn a_dead_letter_has_its_reason_and_its_history() {
        assert_eq!(broken(|_| {}), []);
        assert_eq!(broken(|dead| dead.last_final = None).len(), 1);
        assert_eq!(broken(|dead| dead.attempts = 3).len(), 1);
        assert_eq!(broken(|dead| dead.reason = Why::Untold).len(), 1);
    }

    #[test]
    fn only_poison_is_buried() {
        let mut history = buried();
        history.dead.push(DeadLetter {
            event: 2,
            handler: 1,
            attempts: 1,
            last_final: Some(1),
            reason: Why::Other,
            was_unknown: false,
        });
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn what_is_of_an_unknown_key_is_a_dead_letter_there_and_says_so() {
        let with = |handler: u8, reason, was_unknown| {
            let mut history = well();
            history.events.push(Event { key: UNKNOWN_KEY, version: 1, ..history.events[0] });
            history.stored.push(true);
            for receipts in [0, 1, 2, STRICT, FUNCTION] {
                let given = if receipts == STRICT { Given::NotFound } else { Given::Accepted };
                let receipt = Receipt { given, ..receipt(&history, 6, receipts, 1_700) };
                history.receipts[receipts].push(receipt);
            }
            history.dead.push(DeadLetter { event: 6, handler, attempts: 10, last_final: Some(10), reason, was_unknown });
            check(&history).into_iter().filter(|violation| violation.rule == "dead letters").count()
        };
        assert_eq!(with(STRICT as u8, Why::NotFound, true), 0);
        assert_eq!(with(STRICT as u8, Why::Exhausted, true), 1);
        assert_eq!(with(STRICT as u8, Why::Exhausted, false), 0);
        assert_eq!(with(STRICT as u8, Why::NotFound, false), 1);
        assert_eq!(with(0, Why::NotFound, true), 2);
    }
}
