//! The log has what was committed and nothing else. A crash of the server may take back what did not wait for the disk, and the
//! database says what became of a commit whose answer was lost.

use super::Violation;
use crate::clock::Moment;
use crate::faults::Target;
use crate::history::History;
use crate::ledger::Fate;

/// The server writes its log out at least so often, whoever waits for it: three rounds of its writer, and a busy machine.
const ON_DISK_AFTER: Moment = 3_000;

pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, event) in (0..).zip(&history.events) {
        let is_stored = history.is_stored(number);
        let what = match event.fate {
            Fate::Committed if !is_stored => "committed, and not in the log",
            Fate::Unflushed if !is_stored && !crashed_after(history, event.at) => {
                "committed without waiting for the disk, not in the log, and the server did not crash"
            }
            Fate::RolledBack if is_stored => "rolled back, and in the log",
            _ => continue,
        };
        found.push(Violation { rule: "log", event: Some(number), at: Some(event.at), what: what.to_owned() });
    }
    found
}

fn crashed_after(history: &History, at: Moment) -> bool {
    let mut crashes = history.faults.iter().filter(|fault| fault.target == Target::Server);
    crashes.any(|crash| crash.ended >= at && crash.began <= at + ON_DISK_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{fault, only_rule, well};
    use crate::faults::Leaves;

    fn gone(fate: Fate) -> History {
        let mut history = well();
        history.events[5].fate = fate;
        history.stored[5] = false;
        history.receipts.iter_mut().for_each(|receipts| receipts.retain(|receipt| receipt.event != Some(5)));
        history
    }

    #[test]
    fn what_was_committed_is_in_the_log() {
        assert_eq!(only_rule(&gone(Fate::Committed), "log").len(), 1);
        assert_eq!(only_rule(&gone(Fate::Unflushed), "log").len(), 1);
        assert_eq!(only_rule(&gone(Fate::Unknown), "log").len(), 0);
        assert_eq!(only_rule(&gone(Fate::RolledBack), "log").len(), 0);
    }

    #[test]
    fn a_crash_explains_the_loss_of_what_did_not_wait_for_the_disk_and_of_nothing_else() {
        let crash = fault("server: killed", Target::Server, Leaves::LostOutcomes, 1_600, 1_900);
        let mut history = gone(Fate::Unflushed);
        history.faults.push(crash.clone());
        assert_eq!(only_rule(&history, "log").len(), 0);
        history.events[5].fate = Fate::Committed;
        assert_eq!(only_rule(&history, "log").len(), 1);
    }

    #[test]
    fn what_was_rolled_back_is_not_in_the_log() {
        let mut history = well();
        history.events[2].fate = Fate::RolledBack;
        assert_eq!(only_rule(&history, "log").len(), 1);
    }
}
