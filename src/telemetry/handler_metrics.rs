//! The metrics of one handler, resolved once: a delivery then costs a few atomic additions, no look-up and no string. Without a
//! recorder they do nothing; a recorder of the embedding program receives them.

use std::array;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::metrics as list;
use crate::domain::{CircuitState, Outcome, Reason};

/// The unfinished work of a handler, over all its partitions that this instance owns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Backlog {
    /// In the log, not dispatched.
    pub ready: u64,
    pub retrying: u64,
    /// Held behind an earlier event of their key.
    pub waiting: u64,
    pub in_flight: u64,
    /// Dead letters that wait for an operator.
    pub dead: u64,
    /// Age of the oldest unfinished event; 0 when there is none.
    pub oldest_seconds: f64,
}

/// The outcome of a replayed dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    Delivered,
    DeadAgain,
}

impl ReplayOutcome {
    pub const ALL: [Self; 2] = [Self::Delivered, Self::DeadAgain];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::DeadAgain => "dead",
        }
    }
}

const REASONS: usize = Reason::ALL.len();

/// Handles of every series of one handler. Gauges belong to the handler, not to a partition: the caller adds up.
#[derive(Debug, Clone)]
pub struct HandlerMetrics {
    fetched: Counter,
    outcomes: [Counter; Outcome::ALL.len()],
    failures: [Counter; REASONS],
    burials: [Counter; REASONS],
    replays: [Counter; ReplayOutcome::ALL.len()],
    duration: Histogram,
    end_to_end: Histogram,
    pending: Pending,
    oldest: Gauge,
    dead: Gauge,
    circuit: [Gauge; CircuitState::ALL.len()],
    paused: Gauge,
    concurrency: Gauge,
    destinations: Gauge,
    stuck: Gauge,
    last_read: Gauge,
    last_flush: Gauge,
    waiting_until: Gauge,
}

#[derive(Debug, Clone)]
struct Pending {
    ready: Gauge,
    retrying: Gauge,
    waiting: Gauge,
    in_flight: Gauge,
}

impl HandlerMetrics {
    /// Creates every series of the handler at zero, its circuit closed. Install a recorder first: handles made before go nowhere.
    pub fn new(handler: &str, kind: &str) -> Self {
        let pending = |state| list::PENDING_DELIVERIES.gauge(&[handler, state]);
        let metrics = Self {
            fetched: list::EVENTS_FETCHED.counter(&[handler]),
            outcomes: Outcome::ALL.map(|outcome| list::DELIVERIES.counter(&[handler, kind, outcome.as_str()])),
            failures: per_failure(|reason| list::ATTEMPTS_FAILED.counter(&[handler, reason.as_str()])),
            burials: per_failure(|reason| list::DEAD_LETTERS_ADDED.counter(&[handler, reason.as_str()])),
            replays: ReplayOutcome::ALL.map(|outcome| list::REPLAYED.counter(&[handler, outcome.as_str()])),
            duration: list::DELIVERY_DURATION.histogram(&[handler, kind]),
            end_to_end: list::END_TO_END.histogram(&[handler]),
            pending: Pending {
                ready: pending("ready"),
                retrying: pending("retrying"),
                waiting: pending("waiting"),
                in_flight: pending("in_flight"),
            },
            oldest: list::OLDEST_PENDING_AGE.gauge(&[handler]),
            dead: list::DEAD_LETTERS.gauge(&[handler]),
            circuit: CircuitState::ALL.map(|state| list::CIRCUIT_STATE.gauge(&[handler, state.as_str()])),
            paused: list::PAUSED.gauge(&[handler]),
            concurrency: list::CONCURRENCY.gauge(&[handler]),
            destinations: list::DESTINATIONS.gauge(&[handler]),
            stuck: list::STUCK.gauge(&[handler]),
            last_read: list::LAST_HANDLER_READ.gauge(&[handler]),
            last_flush: list::LAST_HANDLER_FLUSH.gauge(&[handler]),
            waiting_until: list::WAITING_UNTIL.gauge(&[handler]),
        };
        metrics.circuit(CircuitState::Closed);
        metrics
    }

    /// Events were read from the log.
    pub fn fetched(&self, events: u64) {
        self.fetched.increment(events);
    }

    /// An attempt ended, well or not. `duration` is that of the attempt.
    pub fn delivered(&self, outcome: Outcome, duration: Duration) {
        self.outcomes[outcome as usize].increment(1);
        self.duration.record(duration.as_secs_f64());
    }

    /// A delivery succeeded so many seconds after its event was recorded. Negative values, from clocks that disagree, count as 0.
    pub fn end_to_end(&self, seconds: f64) {
        self.end_to_end.record(seconds.max(0.0));
    }

    /// An attempt did not succeed.
    pub fn failed(&self, reason: Reason) {
        self.failures[reason as usize].increment(1);
    }

    /// A delivery became a dead letter.
    pub fn buried(&self, reason: Reason) {
        self.burials[reason as usize].increment(1);
    }

    /// A replayed dead letter has an outcome.
    pub fn replayed(&self, outcome: ReplayOutcome) {
        self.replays[outcome as usize].increment(1);
    }

    /// Sets what is pending. Call it with the default when the last lease of the handler goes, or the old figures stay.
    pub fn gauges(&self, backlog: &Backlog) {
        self.pending.ready.set(backlog.ready as f64);
        self.pending.retrying.set(backlog.retrying as f64);
        self.pending.waiting.set(backlog.waiting as f64);
        self.pending.in_flight.set(backlog.in_flight as f64);
        self.dead.set(backlog.dead as f64);
        self.oldest.set(backlog.oldest_seconds);
    }

    pub fn circuit(&self, state: CircuitState) {
        for (gauge, of) in self.circuit.iter().zip(CircuitState::ALL) {
            gauge.set(if of == state { 1.0 } else { 0.0 });
        }
    }

    pub fn paused(&self, paused: bool) {
        self.paused.set(if paused { 1.0 } else { 0.0 });
    }

    /// Sets how many destinations are in trouble.
    pub fn destinations(&self, destinations: usize) {
        self.destinations.set(destinations as f64);
    }

    /// Whether a loop of the handler cannot go on.
    pub fn stuck(&self, is_stuck: bool) {
        self.stuck.set(if is_stuck { 1.0 } else { 0.0 });
    }

    /// When the last read and the last flush succeeded, and until when the handler waits, in seconds since the Unix epoch; 0: never.
    pub fn moments(&self, last_read: f64, last_flush: f64, waiting_until: f64) {
        self.last_read.set(last_read);
        self.last_flush.set(last_flush);
        self.waiting_until.set(waiting_until);
    }

    pub fn concurrency(&self, deliveries: usize) {
        self.concurrency.set(deliveries as f64);
    }
}

/// One counter per reason, at the index of the reason; reasons that are not failures have a hidden counter.
fn per_failure(counter: impl Fn(Reason) -> Counter) -> [Counter; REASONS] {
    array::from_fn(|index| {
        let reason = Reason::ALL[index];
        if list::is_failure(reason) { counter(reason) } else { Counter::noop() }
    })
}

#[cfg(test)]
mod tests {
    use super::super::recorder::tests::{rendered, value};
    use super::*;

    #[test]
    fn the_index_of_an_array_is_the_number_of_the_enum() {
        assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(ReplayOutcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    }

    #[test]
    fn every_series_of_a_handler_exists_at_zero_from_the_start() {
        let text = rendered(|| drop(HandlerMetrics::new("billing", "webhook")));
        for outcome in Outcome::ALL {
            let series = format!(r#"outboxd_deliveries_total{{handler="billing",kind="webhook",outcome="{outcome}"}}"#);
            assert_eq!(value(&text, &series), Some(0.0), "{series}");
        }
        for reason in list::failures() {
            for name in ["outboxd_attempts_failed_total", "outboxd_dead_letters_total"] {
                let series = format!(r#"{name}{{handler="billing",reason="{reason}"}}"#);
                assert_eq!(value(&text, &series), Some(0.0), "{series}");
            }
        }
        for state in ["ready", "in_flight", "retrying", "waiting"] {
            let series = format!(r#"outboxd_pending_deliveries{{handler="billing",state="{state}"}}"#);
            assert_eq!(value(&text, &series), Some(0.0), "{series}");
        }
        for series in [
            r#"outboxd_events_fetched_total{handler="billing"}"#,
            r#"outboxd_delivery_duration_seconds_count{handler="billing",kind="webhook"}"#,
            r#"outboxd_end_to_end_seconds_bucket{handler="billing",le="86400"}"#,
            r#"outboxd_oldest_pending_age_seconds{handler="billing"}"#,
            r#"outboxd_dead_letters{handler="billing"}"#,
            r#"outboxd_replayed_total{handler="billing",outcome="delivered"}"#,
            r#"outboxd_replayed_total{handler="billing",outcome="dead"}"#,
            r#"outboxd_handler_circuit_state{handler="billing",state="open"}"#,
            r#"outboxd_handler_paused{handler="billing"}"#,
            r#"outboxd_handler_concurrency{handler="billing"}"#,
            r#"outboxd_handler_stuck{handler="billing"}"#,
            r#"outboxd_handler_last_read_timestamp_seconds{handler="billing"}"#,
            r#"outboxd_handler_last_flush_timestamp_seconds{handler="billing"}"#,
            r#"outboxd_handler_waiting_until_timestamp_seconds{handler="billing"}"#,
        ] {
            assert_eq!(value(&text, series), Some(0.0), "{series}");
        }
        assert!(!text.contains(r#"reason="ok""#), "a success is no failure");
    }

    #[test]
    fn what_is_reported_is_what_is_seen() {
        let text = rendered(|| {
            let metrics = HandlerMetrics::new("billing", "webhook");
            metrics.fetched(3);
            metrics.delivered(Outcome::Delivered, Duration::from_millis(20));
            metrics.delivered(Outcome::Retry, Duration::from_secs(2));
            metrics.failed(Reason::Timeout);
            metrics.buried(Reason::Exhausted);
            metrics.replayed(ReplayOutcome::DeadAgain);
            metrics.end_to_end(0.004);
            metrics.end_to_end(-1.0);
            metrics.circuit(CircuitState::HalfOpen);
            metrics.paused(true);
            metrics.concurrency(8);
            metrics.gauges(&Backlog { ready: 5, retrying: 4, waiting: 3, in_flight: 2, dead: 1, oldest_seconds: 1.5 });
        });
        for (series, expected) in [
            (r#"outboxd_events_fetched_total{handler="billing"}"#, 3.0),
            (r#"outboxd_deliveries_total{handler="billing",kind="webhook",outcome="delivered"}"#, 1.0),
            (r#"outboxd_deliveries_total{handler="billing",kind="webhook",outcome="retry"}"#, 1.0),
            (r#"outboxd_delivery_duration_seconds_sum{handler="billing",kind="webhook"}"#, 2.02),
            (r#"outboxd_attempts_failed_total{handler="billing",reason="timeout"}"#, 1.0),
            (r#"outboxd_dead_letters_total{handler="billing",reason="exhausted"}"#, 1.0),
            (r#"outboxd_replayed_total{handler="billing",outcome="dead"}"#, 1.0),
            (r#"outboxd_end_to_end_seconds_sum{handler="billing"}"#, 0.004),
            (r#"outboxd_end_to_end_seconds_bucket{handler="billing",le="0.005"}"#, 2.0),
            (r#"outboxd_handler_circuit_state{handler="billing",state="half_open"}"#, 1.0),
            (r#"outboxd_handler_circuit_state{handler="billing",state="closed"}"#, 0.0),
            (r#"outboxd_handler_paused{handler="billing"}"#, 1.0),
            (r#"outboxd_handler_concurrency{handler="billing"}"#, 8.0),
            (r#"outboxd_pending_deliveries{handler="billing",state="ready"}"#, 5.0),
            (r#"outboxd_pending_deliveries{handler="billing",state="retrying"}"#, 4.0),
            (r#"outboxd_pending_deliveries{handler="billing",state="waiting"}"#, 3.0),
            (r#"outboxd_pending_deliveries{handler="billing",state="in_flight"}"#, 2.0),
            (r#"outboxd_dead_letters{handler="billing"}"#, 1.0),
            (r#"outboxd_oldest_pending_age_seconds{handler="billing"}"#, 1.5),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn without_a_recorder_nothing_happens() {
        let metrics = HandlerMetrics::new("billing", "webhook");
        metrics.delivered(Outcome::Delivered, Duration::ZERO);
        metrics.failed(Reason::Ok);
    }
}
