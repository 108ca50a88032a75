//! The policy: what happens next to a delivery after an attempt. `decide` is the only place that answers this.
//!
//! A `Permanent` verdict makes a dead letter even while the circuit is not closed, because the receiver has answered about this
//! event. A `Retry` spends nothing then: the loop returns the event to its lane (`relay::books`), because the receiver is known
//! to be down.

use std::time::Duration;

use super::{Backoff, Outcome, Reason, Verdict};

/// How long and how often a handler tries.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    pub backoff: Backoff,
    /// Attempts in all, at least 1.
    pub max_attempts: u32,
    /// Time since the first attempt after which nothing is tried again.
    pub max_age: Option<Duration>,
}

/// In which order a handler gets events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordering {
    /// One after the other per aggregate.
    Aggregate,
    /// One after the other per value of this header.
    Header(String),
    /// One after the other per value at this path of the payload.
    Payload(Vec<String>),
    /// In no order.
    None,
}

/// How successes at the first attempt are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A row for each: the audit trail.
    All,
    /// Nothing beyond the position; failures and retries are always recorded.
    Failures,
}

/// The effect of a dead letter on later events of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDeadLetter {
    /// They go on.
    Continue,
    /// They wait until an operator decides.
    HoldKey,
}

/// The next step of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Handled.
    Done,
    /// Again after this long; one attempt was spent.
    RetryIn(Duration),
    /// Back to the head of its lane, nothing spent; the whole handler pauses for this long, or slows down.
    SlowDown(Option<Duration>),
    /// Back to the head of its lane, nothing spent; the circuit opens, unless the fault turns out to be the event's.
    OpenCircuit,
    /// A dead letter, for this reason.
    Bury(Reason),
}

/// Decides. `attempt` counts from 1 and includes this one; `age` is the time since the first attempt; `draw` is in [0, 1).
pub fn decide(policy: &RetryPolicy, verdict: &Verdict, attempt: u32, age: Duration, draw: f64) -> Next {
    match verdict.outcome {
        Outcome::Delivered | Outcome::Duplicate => Next::Done,
        Outcome::BackPressure => Next::SlowDown(verdict.retry_after),
        Outcome::HandlerFault => Next::OpenCircuit,
        Outcome::Permanent => Next::Bury(verdict.reason),
        Outcome::Retry => again(policy, verdict, attempt, age, draw).map_or_else(Next::Bury, Next::RetryIn),
    }
}

/// How long until the next attempt after a fault that turned out to be the event's own: as after a retry, but the reason of its dead
/// letter is that of the fault.
pub fn at_fault(policy: &RetryPolicy, verdict: &Verdict, attempt: u32, age: Duration, draw: f64) -> Result<Duration, Reason> {
    again(policy, verdict, attempt, age, draw).map_err(|_| verdict.reason)
}

/// How long until the next attempt; or why there is none.
fn again(policy: &RetryPolicy, verdict: &Verdict, attempt: u32, age: Duration, draw: f64) -> Result<Duration, Reason> {
    if attempt >= policy.max_attempts {
        // The reason of each try is the reason here: an operator must know of it before anything else.
        return Err(if verdict.reason == Reason::Crashed { Reason::Crashed } else { Reason::Exhausted });
    }
    let delay = policy.backoff.delay(attempt, draw);
    // The delay that the receiver requests is a lower bound, but it cannot exceed the longest delay of the policy.
    let delay = delay.max(verdict.retry_after.unwrap_or_default().min(policy.backoff.ceiling()));
    match policy.max_age {
        Some(max_age) if age + delay > max_age => Err(Reason::Expired),
        _ => Ok(delay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            backoff: Backoff::exponential(Duration::from_secs(5), 3.0, Duration::from_secs(60), 0.0).expect("valid"),
            max_attempts: 3,
            max_age: Some(Duration::from_secs(100)),
        }
    }

    #[test]
    fn a_fault_of_the_event_follows_the_retry_policy_to_a_dead_letter_with_its_reason() {
        let fault = Verdict::handler_fault(Reason::NotFound, "");
        let next = |attempt, age| at_fault(&policy(), &fault, attempt, Duration::from_secs(age), 0.5);
        assert_eq!(next(1, 0), Ok(Duration::from_secs(5)));
        assert_eq!(next(3, 0), Err(Reason::NotFound));
        assert_eq!(next(2, 90), Err(Reason::NotFound));
    }

    #[test]
    fn every_outcome_has_one_consequence() {
        let seconds = Duration::from_secs;
        let failed = || Verdict::retry(Reason::ServerError, "");
        for (verdict, attempt, age, want) in [
            (Verdict::delivered(), 1, 0, Next::Done),
            (Verdict::duplicate(), 99, 0, Next::Done),
            (failed(), 1, 0, Next::RetryIn(seconds(5))),
            (failed(), 2, 0, Next::RetryIn(seconds(15))),
            (failed(), 3, 0, Next::Bury(Reason::Exhausted)),
            (Verdict::retry(Reason::Crashed, ""), 2, 0, Next::RetryIn(seconds(15))),
            (Verdict::retry(Reason::Crashed, ""), 3, 0, Next::Bury(Reason::Crashed)),
            (failed(), 2, 90, Next::Bury(Reason::Expired)),
            (failed().not_before(Some(seconds(30))), 1, 0, Next::RetryIn(seconds(30))),
            (failed().not_before(Some(seconds(9999))), 1, 0, Next::RetryIn(seconds(60))),
            (failed().not_before(Some(seconds(1))), 1, 0, Next::RetryIn(seconds(5))),
            (Verdict::back_pressure(Reason::Throttled, Some(seconds(7)), ""), 99, 999, Next::SlowDown(Some(seconds(7)))),
            (Verdict::handler_fault(Reason::Untrusted, ""), 99, 999, Next::OpenCircuit),
            (Verdict::permanent(Reason::TooLarge, ""), 1, 0, Next::Bury(Reason::TooLarge)),
        ] {
            assert_eq!(decide(&policy(), &verdict, attempt, seconds(age), 0.5), want, "{verdict:?} at {attempt}");
        }
    }
}
