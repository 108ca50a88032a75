//! No session of a relay stays idle in a transaction, except while the relay is frozen or cannot reach the server; and not even then for
//! longer than the bound that its sessions set themselves.

use super::Violation;
use crate::clock::Moment;
use crate::faults::{Fault, Target};
use crate::history::History;
use crate::monitor::Idle;

const LONGEST: Moment = 5_000;
/// `idle_in_transaction_session_timeout` of every session, and a busy machine.
const LONGEST_EVER: Moment = 20_000;

pub fn check(history: &History) -> Vec<Violation> {
    let idle = history.idle.iter().filter(|idle| {
        let length = idle.until.saturating_sub(idle.since);
        length > LONGEST_EVER || (length > LONGEST && !history.faults.iter().any(|fault| explains(fault, idle)))
    });
    idle.map(|idle| Violation {
        rule: "sessions",
        event: None,
        at: Some(idle.since),
        what: format!("session {} of relay {} was idle in a transaction for {} ms", idle.pid, idle.relay, idle.until - idle.since),
    })
    .collect()
}

fn explains(fault: &Fault, idle: &Idle) -> bool {
    let hits = matches!(fault.target, Target::AllRelays | Target::Server) || fault.target == Target::Relay(idle.relay);
    hits && fault.began <= idle.until && idle.since <= fault.ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{fault, only_rule, well};
    use crate::faults::Leaves;

    fn count(length: Moment, fault: Option<Fault>) -> usize {
        let mut history = well();
        history.idle.push(Idle { relay: 1, pid: 42, since: 10_000, until: 10_000 + length });
        history.faults.extend(fault);
        only_rule(&history, "sessions").len()
    }

    #[test]
    fn a_session_that_stays_idle_in_a_transaction_is_found() {
        let frozen = |relay| Some(fault("relay: frozen", Target::Relay(relay), Leaves::LostOutcomes, 9_000, 14_000));
        assert_eq!(count(3_000, None), 0);
        assert_eq!(count(6_000, None), 1);
        assert_eq!(count(6_000, frozen(1)), 0);
        assert_eq!(count(6_000, frozen(2)), 1);
        assert_eq!(count(90_000, frozen(1)), 1);
    }
}
