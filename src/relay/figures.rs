//! The last figures of each partition of a handler, for the metrics, the observer and the alerts: the gauges of a handler are
//! those of all its partitions.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use uuid::Uuid;

use super::unix_time;
use crate::domain::{CircuitState, Reason};
use crate::telemetry::{Backlog, HandlerMetrics};

/// The last report of each partition of a handler. The gauges belong to the handler, so they show the sum, and the worst circuit.
pub struct Figures(Mutex<Vec<Figure>>);

/// One partition as its loop sees it. The default is that of a partition without an owner here.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    pub backlog: Backlog,
    pub circuit: Option<CircuitState>,
    pub is_paused: bool,
    pub concurrency: usize,
    /// Destinations in trouble.
    pub destinations: usize,
    /// The rest is the observer's, except `held_until`.
    pub is_owned: bool,
    pub is_stuck: bool,
    /// Since the Unix epoch, in seconds.
    pub last_read: Option<f64>,
    pub last_flush: Option<f64>,
    /// The receiver asked for a pause.
    pub held_until: Option<Instant>,
    pub held_reason: String,
    pub answered: Option<Answered>,
    /// Its loop has nothing to do.
    pub rests: bool,
    /// Rises whenever that may have changed what a look would find.
    pub stirs: u64,
    pub measure: Option<Measure>,
}

/// The last answer that was no delivery, spent or not.
#[derive(Debug, Clone)]
pub struct Answered {
    pub at: Instant,
    pub event: Uuid,
    pub reason: Reason,
    pub status: Option<u16>,
    pub detail: String,
}

/// The counts of the observer for a loop.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Before the count was made.
    pub began: Instant,
    /// Retrying and waiting deliveries.
    pub unfinished: u64,
    pub dead: u64,
}

impl Figures {
    pub fn new(partitions: u16) -> Self {
        Self(Mutex::new(vec![Figure::default(); usize::from(partitions)]))
    }

    /// The report of one partition, to read, or to change without showing it.
    pub fn with<T>(&self, partition: u16, look: impl FnOnce(&mut Figure) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(partition)])
    }

    /// Changes one partition's figures and shows the handler's.
    pub fn change(&self, metrics: &HandlerMetrics, partition: u16, change: impl FnOnce(&mut Figure)) {
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut figures[usize::from(partition)]);
        let sum = |part: fn(&Backlog) -> u64| figures.iter().map(|figure| part(&figure.backlog)).sum();
        metrics.gauges(&Backlog {
            ready: sum(|backlog| backlog.ready),
            retrying: sum(|backlog| backlog.retrying),
            waiting: sum(|backlog| backlog.waiting),
            in_flight: sum(|backlog| backlog.in_flight),
            dead: sum(|backlog| backlog.dead),
            oldest_seconds: figures.iter().map(|figure| figure.backlog.oldest_seconds).fold(0.0, f64::max),
        });
        let is_in = |state| figures.iter().any(|figure| figure.circuit == Some(state));
        let worst = [CircuitState::Open, CircuitState::HalfOpen].into_iter().find(|state| is_in(*state));
        metrics.circuit(worst.unwrap_or(CircuitState::Closed));
        metrics.paused(figures.iter().any(|figure| figure.is_paused));
        metrics.destinations(figures.iter().map(|figure| figure.destinations).sum());
        metrics.concurrency(figures.iter().map(|figure| figure.concurrency).sum());
        metrics.stuck(figures.iter().any(|figure| figure.is_stuck));
        let owned = || figures.iter().filter(|figure| figure.is_owned);
        let earliest = |moment: fn(&Figure) -> Option<f64>| owned().map(|f| moment(f).unwrap_or_default()).reduce(f64::min);
        let now = Instant::now();
        let left = figures.iter().filter_map(|figure| figure.held_until?.checked_duration_since(now)).max();
        let waiting_until = left.map(|left| unix_time() + left);
        metrics.moments(
            earliest(|figure| figure.last_read).unwrap_or_default(),
            earliest(|figure| figure.last_flush).unwrap_or_default(),
            waiting_until.unwrap_or_default().as_secs_f64(),
        );
    }
}
