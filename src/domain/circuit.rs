//! The circuit breaker of one handler: while a receiver cannot work, it holds the events and spends no attempt.
//!
//! Verdicts are about the event or about the handler. `Retry` may be either. `HandlerFault` (credentials, address, trust) and
//! `BackPressure` (429, 503 with `Retry-After`) are about the handler and spend no attempt. The circuit opens
//!
//! - at once on a fault that only the handler can have (`suspects` judges all other faults);
//! - after five attempts in a row that reached no receiver, so that the few events of a quiet handler outlive an outage, too;
//! - on a failure rate that only an outage explains: by default half of at least 20 attempts within a minute.
//!
//! While the circuit is not closed, one probe at a time goes out, each after twice the wait of the last one, and each with the
//! head of another lane, so that one bad event cannot keep the circuit open. A failed probe spends no attempt: an outage never
//! turns the backlog into dead letters.
//!
//! Only attempts of the current *era* count. The era rises when the circuit opens, when it closes, and with each probe. An outage
//! ends everything that was in flight when it began, often much later; these late ends say nothing about the receiver now,
//! neither by failing nor by succeeding. An [`Admission`] says in which era an attempt began.
//!
//! The state and the time of the next probe are stored with the subscription, so a restart does not send a burst to a receiver
//! that is down. The length of later waits is not stored: the first probe of a new owner goes out after the first wait at the
//! latest.
//!
//! Time is an argument: a monotonic reading, as a duration since any fixed moment.

use std::collections::VecDeque;
use std::time::Duration;

use super::Reason;
use super::suspects::Tick;

/// Attempts in a row that reached no receiver, after which the circuit opens whatever the rate.
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

/// That an attempt may begin, when, and in which era of the circuit it did. Handed back with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    era: u64,
    began: Tick,
}

impl Admission {
    /// When the attempt began, in ticks of its circuit.
    pub fn began(self) -> Tick {
        self.began
    }
}

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
    /// Rises with every beginning and every end of an attempt.
    ticks: Tick,
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
            ticks: 0,
            reason: None,
        }
    }

    /// The moment at which an attempt ends.
    pub fn tick(&mut self) -> Tick {
        self.ticks += 1;
        self.ticks
    }

    /// Takes up an open circuit that was stored; the first probe is due after `wait`, or after the wait of a first one: what the last owner
    /// has learned from longer waits is not stored.
    pub fn reopen(&mut self, reason: Option<Reason>, wait: Duration, now: Duration) {
        self.state = CircuitState::Open;
        self.reason = reason;
        self.probe_at = now + wait.min(self.policy.first_probe);
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
        Some(Admission { era: self.era, began: self.tick() })
    }

    /// The next probe need not wait: there is an event whose result is new evidence.
    pub fn hurry(&mut self, now: Duration) {
        self.probe_at = self.probe_at.min(now);
    }

    /// The receiver answered about an event: it works, whatever it said about that event. An open circuit is closed by its probe only: what
    /// was in flight when it opened had perhaps been answered before the trouble began.
    pub fn answered(&mut self, admission: Admission, now: Duration) {
        self.unreached_in_a_row = 0;
        if self.state == CircuitState::Closed {
            self.remember(now, false);
        } else if !self.is_late(admission) {
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

    /// Others have confirmed that the fault is the handler's, or none has contradicted it.
    pub fn convict(&mut self, reason: Reason, now: Duration) {
        if self.state == CircuitState::Closed {
            self.open(reason, now);
        }
    }

    /// An attempt ended without telling anything, for example because there was no event to begin with.
    pub fn released(&mut self, admission: Admission) {
        self.probe_in_flight &= self.is_late(admission);
    }

    /// Closes it, as after a successful probe or by an operator.
    pub fn close(&mut self) {
        *self = Self { era: self.era + 1, ticks: self.ticks, ..Self::new(self.policy.clone()) };
    }

    /// It began before the circuit opened or closed, or before the probe that is out: an outage ends all that was in flight when it
    /// came, often much later, and that is no news. The receiver has not failed again.
    pub fn is_late(&self, admission: Admission) -> bool {
        admission.era != self.era
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
mod tests;
