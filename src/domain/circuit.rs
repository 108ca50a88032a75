//! The circuit breaker of one handler: it holds events while a receiver cannot work, and spends nothing while it does.
//! It opens at once on a fault of the handler, after a few attempts in a row that reached nobody (so that a quiet handler's few
//! events outlive an outage, too), and on a failure rate that only an outage explains. Half open lets one probe
//! through at a time. What began before the circuit last changed proves nothing by failing: an [`Admission`] tells when an attempt began.
//! Time is an argument: a monotonic reading, as a duration since any fixed moment.

use std::collections::VecDeque;
use std::time::Duration;

use super::Reason;

/// Attempts in a row that reached nobody, after which the circuit opens whatever the rate.
const UNREACHED_IN_A_ROW: usize = 5;

/// When the circuit opens and how it probes.
#[derive(Debug, Clone, PartialEq)]
pub struct CircuitPolicy {
    /// Share of failed attempts in `window` that opens the circuit, in (0, 1].
    pub failure_rate: f64,
    /// Attempts in `window` below which no rate is judged.
    pub minimum: usize,
    pub window: Duration,
    /// Wait before the first probe; doubles with every failed one.
    pub first_probe: Duration,
    pub max_probe: Duration,
}

impl Default for CircuitPolicy {
    fn default() -> Self {
        Self {
            failure_rate: 0.5,
            minimum: 20,
            window: Duration::from_secs(60),
            first_probe: Duration::from_secs(30),
            max_probe: Duration::from_secs(600),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    Closed,
    Open,
    HalfOpen,
}

impl CircuitState {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// That an attempt may begin, and in which era of the circuit it did. Handed back with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission(u64);

/// The breaker itself.
#[derive(Debug, Clone)]
pub struct Circuit {
    policy: CircuitPolicy,
    state: CircuitState,
    /// Attempts that reached a verdict about the receiver's health: when, and whether it failed.
    recent: VecDeque<(Duration, bool)>,
    failed: usize,
    unreached_in_a_row: usize,
    probe_at: Duration,
    probe_wait: Duration,
    probe_in_flight: bool,
    /// Rises when it opens, when it closes, and with each probe: only what began in this era says anything by failing.
    era: u64,
    reason: Option<Reason>,
}

impl Circuit {
    pub fn new(policy: CircuitPolicy) -> Self {
        let probe_wait = policy.first_probe;
        Self {
            policy,
            state: CircuitState::Closed,
            recent: VecDeque::new(),
            failed: 0,
            unreached_in_a_row: 0,
            probe_at: Duration::ZERO,
            probe_wait,
            probe_in_flight: false,
            era: 0,
            reason: None,
        }
    }

    /// Takes up an open circuit that was stored; the first probe is due after `wait`.
    pub fn reopen(&mut self, reason: Option<Reason>, wait: Duration, now: Duration) {
        self.state = CircuitState::Open;
        self.reason = reason;
        self.probe_at = now + wait.min(self.policy.max_probe);
        self.probe_in_flight = false;
        self.era += 1;
    }

    pub fn state(&self) -> CircuitState {
        self.state
    }

    pub fn is_closed(&self) -> bool {
        self.state == CircuitState::Closed
    }

    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// How long until the next probe may go; `None` while closed or while a probe is out.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        (self.state != CircuitState::Closed && !self.probe_in_flight).then(|| self.probe_at.saturating_sub(now))
    }

    /// Whether an attempt may begin now. From a circuit that is not closed it is the one probe: report its end.
    pub fn admit(&mut self, now: Duration) -> Option<Admission> {
        match self.state {
            CircuitState::Closed => {}
            CircuitState::Open | CircuitState::HalfOpen if !self.probe_in_flight && now >= self.probe_at => {
                self.state = CircuitState::HalfOpen;
                self.probe_in_flight = true;
                self.era += 1;
            }
            CircuitState::Open | CircuitState::HalfOpen => return None,
        }
        Some(Admission(self.era))
    }

    /// The receiver answered about an event: it works, whatever it said about that event, and whenever it was asked.
    pub fn answered(&mut self, now: Duration) {
        self.unreached_in_a_row = 0;
        if self.state == CircuitState::Closed {
            self.remember(now, false);
        } else {
            self.close();
        }
    }

    /// An attempt failed in a way that an outage explains, too.
    pub fn failed(&mut self, admission: Admission, reason: Reason, now: Duration) {
        if self.is_late(admission) {
            return;
        }
        if self.state != CircuitState::Closed {
            return self.probe_failed(reason, now);
        }
        self.remember(now, true);
        self.unreached_in_a_row = if reason.is_unreachable() { self.unreached_in_a_row + 1 } else { 0 };
        let judged = self.recent.len();
        let rate_is_bad = judged >= self.policy.minimum && self.failed as f64 >= self.policy.failure_rate * judged as f64;
        if rate_is_bad || self.unreached_in_a_row >= UNREACHED_IN_A_ROW {
            self.open(reason, now);
        }
    }

    /// The handler cannot work for any event.
    pub fn fault(&mut self, admission: Admission, reason: Reason, now: Duration) {
        if self.is_late(admission) {
            return;
        }
        if self.state == CircuitState::Closed { self.open(reason, now) } else { self.probe_failed(reason, now) }
    }

    /// An attempt ended without telling anything, for example because there was no event to begin with.
    pub fn released(&mut self, admission: Admission) {
        self.probe_in_flight &= self.is_late(admission);
    }

    /// Closes it, as after a successful probe or by a person.
    pub fn close(&mut self) {
        *self = Self { era: self.era + 1, ..Self::new(self.policy.clone()) };
    }

    /// It began before the circuit opened or closed, or before the probe that is out: an outage ends all that was in flight when it
    /// came, often much later, and that is no news. The receiver has not failed again.
    fn is_late(&self, admission: Admission) -> bool {
        admission.0 != self.era
    }

    fn open(&mut self, reason: Reason, now: Duration) {
        self.state = CircuitState::Open;
        self.era += 1;
        self.reason = Some(reason);
        self.probe_wait = self.policy.first_probe;
        self.probe_at = now + self.probe_wait;
        self.recent.clear();
        self.failed = 0;
        self.unreached_in_a_row = 0;
    }

    fn probe_failed(&mut self, reason: Reason, now: Duration) {
        self.probe_in_flight = false;
        self.state = CircuitState::Open;
        self.reason = Some(reason);
        self.probe_wait = (self.probe_wait * 2).min(self.policy.max_probe);
        self.probe_at = now + self.probe_wait;
    }

    fn remember(&mut self, now: Duration, failed: bool) {
        // A day of healthy traffic must not be kept: what is older than the window or beyond a bound is forgotten.
        while self.recent.len() >= 1_000 || self.recent.front().is_some_and(|(at, _)| *at + self.policy.window < now) {
            if let Some((_, true)) = self.recent.pop_front() {
                self.failed -= 1;
            }
        }
        self.recent.push_back((now, failed));
        self.failed += usize::from(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn circuit() -> Circuit {
        Circuit::new(CircuitPolicy::default())
    }

    /// The end of an attempt that began just now.
    fn fail(circuit: &mut Circuit, reason: Reason, now: Duration) {
        let admission = circuit.admit(now).expect("admitted");
        circuit.failed(admission, reason, now);
    }

    fn open(circuit: &mut Circuit, reason: Reason, now: Duration) {
        let admission = circuit.admit(now).expect("admitted");
        circuit.fault(admission, reason, now);
    }

    #[test]
    fn a_fault_opens_at_once_and_one_probe_goes_out() {
        let mut circuit = circuit();
        open(&mut circuit, Reason::Unauthorized, at(0));
        assert_eq!(circuit.state(), CircuitState::Open);
        assert!(circuit.admit(at(29)).is_none());
        assert!(circuit.admit(at(30)).is_some());
        assert!(circuit.admit(at(31)).is_none(), "one probe at a time");
        circuit.answered(at(31));
        assert!(circuit.is_closed());
    }

    #[test]
    fn failed_probes_double_the_wait_up_to_the_bound() {
        let mut circuit = circuit();
        open(&mut circuit, Reason::Tls, at(0));
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..7 {
            let wait = circuit.wait(now).expect("open and no probe out");
            waits.push(wait.as_secs());
            now += wait;
            fail(&mut circuit, Reason::Tls, now);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn a_rate_below_the_minimum_is_not_judged() {
        let mut circuit = circuit();
        (0..19).for_each(|second| fail(&mut circuit, Reason::Timeout, at(second)));
        assert!(circuit.is_closed());
        fail(&mut circuit, Reason::Timeout, at(19));
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn a_few_attempts_in_a_row_that_reach_nobody_open_it() {
        let mut circuit = circuit();
        (0..4).for_each(|second| fail(&mut circuit, Reason::ConnectionRefused, at(second)));
        circuit.answered(at(4));
        (5..9).for_each(|second| fail(&mut circuit, Reason::ConnectionRefused, at(second)));
        assert!(circuit.is_closed(), "somebody was reached in between");
        fail(&mut circuit, Reason::Dns, at(9));
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut circuit = circuit();
        (0..15).for_each(|_| fail(&mut circuit, Reason::Timeout, at(0)));
        (0..15).for_each(|_| fail(&mut circuit, Reason::Timeout, at(100)));
        assert!(circuit.is_closed());
    }

    #[test]
    fn one_poison_event_among_healthy_ones_does_not_open() {
        let mut circuit = circuit();
        for second in 0..1000 {
            if second % 3 == 0 { fail(&mut circuit, Reason::ServerError, at(second)) } else { circuit.answered(at(second)) }
        }
        assert!(circuit.is_closed());
    }

    #[test]
    fn late_failures_do_not_double_the_wait() {
        let mut circuit = circuit();
        let early: Vec<_> = (0..20).filter_map(|_| circuit.admit(at(0))).collect();
        open(&mut circuit, Reason::Dns, at(0));
        (1..10).for_each(|second| circuit.fault(early[0], Reason::Dns, at(second)));
        assert_eq!(circuit.wait(at(10)), Some(at(20)));
    }

    /// Seen in the code: while a probe was out, the failure of any attempt from before the outage was taken for the probe's.
    #[test]
    fn a_late_failure_is_not_taken_for_that_of_the_probe() {
        let mut circuit = circuit();
        let early: Vec<_> = (0..2).filter_map(|_| circuit.admit(at(0))).collect();
        open(&mut circuit, Reason::Dns, at(0));
        let probe = circuit.admit(at(30)).expect("the first probe");
        circuit.failed(early[0], Reason::Timeout, at(31));
        circuit.fault(early[1], Reason::Timeout, at(31));
        assert_eq!((circuit.state(), circuit.wait(at(31))), (CircuitState::HalfOpen, None), "the probe is still out");
        circuit.failed(probe, Reason::Timeout, at(32));
        assert_eq!(circuit.wait(at(32)), Some(at(60)), "one probe has failed, the wait has doubled once");
    }

    #[test]
    fn failures_from_before_it_closed_do_not_open_it_again() {
        let mut circuit = circuit();
        let early: Vec<_> = (0..30).filter_map(|_| circuit.admit(at(0))).collect();
        open(&mut circuit, Reason::Dns, at(0));
        let probe = circuit.admit(at(30)).expect("the first probe");
        circuit.close();
        early.iter().for_each(|admission| circuit.failed(*admission, Reason::Timeout, at(31)));
        circuit.failed(probe, Reason::Timeout, at(31));
        circuit.released(probe);
        assert!(circuit.is_closed());
    }
}
