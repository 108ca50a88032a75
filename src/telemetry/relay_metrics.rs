//! The metrics of the process: leases, reads, flushes, the database. Resolved once, like those of a handler.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::metrics as list;

/// The operation at the database that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseOperation {
    /// Reaching the database for the first time.
    Connect,
    /// Taking, renewing and releasing leases.
    Lease,
    /// Reading the log and the recorded deliveries.
    Read,
    /// Recording outcomes and the position.
    Flush,
    /// Listening for the bell.
    Listen,
    Retention,
    /// Looking after the alerts.
    Alerts,
    /// Measuring the gauges and storing how the subscriptions get on.
    Observe,
}

impl DatabaseOperation {
    pub const ALL: [Self; 8] =
        [Self::Connect, Self::Lease, Self::Read, Self::Flush, Self::Listen, Self::Retention, Self::Alerts, Self::Observe];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Lease => "lease",
            Self::Read => "read",
            Self::Flush => "flush",
            Self::Listen => "listen",
            Self::Retention => "retention",
            Self::Alerts => "alerts",
            Self::Observe => "observe",
        }
    }
}

/// The cause of the end of a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeUpSource {
    /// A producer rang.
    Bell,
    /// The time to look anyway had come.
    Poll,
}

impl WakeUpSource {
    pub const ALL: [Self; 2] = [Self::Bell, Self::Poll];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bell => "bell",
            Self::Poll => "poll",
        }
    }
}

const REFUSED: &str = "refused";
/// The outcome of reading the configuration again.
const RELOAD_OUTCOMES: [&str; 3] = ["applied", "unchanged", REFUSED];

/// Handles of every series of the process.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    ready: Gauge,
    leases_held: Gauge,
    leases_lost: Counter,
    last_read: Gauge,
    database_errors: [Counter; DatabaseOperation::ALL.len()],
    wake_ups: [Counter; WakeUpSource::ALL.len()],
    flush: Histogram,
    removed: Counter,
    reloads: [Counter; RELOAD_OUTCOMES.len()],
    reload_refused: Gauge,
    memory: Gauge,
}

impl RelayMetrics {
    /// Creates every series of the process at zero. Install a recorder first: handles made before go nowhere.
    #[expect(clippy::new_without_default, reason = "it registers series, which a default value should not do")]
    pub fn new() -> Self {
        Self {
            ready: list::READY.gauge(&[]),
            leases_held: list::LEASES_HELD.gauge(&[]),
            leases_lost: list::LEASES_LOST.counter(&[]),
            last_read: list::LAST_READ.gauge(&[]),
            database_errors: DatabaseOperation::ALL.map(|operation| list::DATABASE_ERRORS.counter(&[operation.as_str()])),
            wake_ups: WakeUpSource::ALL.map(|source| list::WAKE_UPS.counter(&[source.as_str()])),
            flush: list::FLUSH_DURATION.histogram(&[]),
            removed: list::RETENTION_REMOVED.counter(&[]),
            reloads: RELOAD_OUTCOMES.map(|outcome| list::RELOADS.counter(&[outcome])),
            reload_refused: list::RELOAD_REFUSED.gauge(&[]),
            memory: list::MEMORY.gauge(&[]),
        }
    }

    /// The current answer of [`Health`](super::Health).
    pub fn ready(&self, is_ready: bool) {
        self.ready.set(if is_ready { 1.0 } else { 0.0 });
    }

    /// The state of each adopted table; `true`: it is broken.
    pub fn adopted(&self, tables: impl Iterator<Item = (String, bool)>) {
        for (table, is_broken) in tables {
            list::ADOPTION_BROKEN.gauge(&[&table]).set(if is_broken { 1.0 } else { 0.0 });
        }
    }

    pub fn leases_held(&self, subscriptions: usize) {
        self.leases_held.set(subscriptions as f64);
    }

    pub fn lease_lost(&self) {
        self.leases_lost.increment(1);
    }

    /// A read of the log succeeded, or was left out on purpose, at this time since the Unix epoch.
    pub fn read_at(&self, unix_time: Duration) {
        self.last_read.set(unix_time.as_secs_f64());
    }

    pub fn database_error(&self, operation: DatabaseOperation) {
        self.database_errors[operation as usize].increment(1);
    }

    /// Counts the failure of an operation, and gives its result on.
    pub fn counted<T, E>(&self, operation: DatabaseOperation, result: Result<T, E>) -> Result<T, E> {
        result.inspect_err(|_| self.database_error(operation))
    }

    pub fn woken(&self, source: WakeUpSource) {
        self.wake_ups[source as usize].increment(1);
    }

    pub fn flushed(&self, duration: Duration) {
        self.flush.record(duration.as_secs_f64());
    }

    pub fn removed(&self, events: u64) {
        self.removed.increment(events);
    }

    /// The configuration was read again; `outcome` is one of `applied`, `unchanged`, `refused`.
    pub fn reloaded(&self, outcome: &'static str) {
        for (known, counter) in RELOAD_OUTCOMES.iter().zip(&self.reloads) {
            counter.increment(u64::from(*known == outcome));
        }
        self.reload_refused.set(f64::from(u8::from(outcome == REFUSED)));
    }

    /// One subscription held so many bytes and now holds so many. The gauge is the sum over all of them.
    pub fn memory(&self, before: usize, now: usize) {
        self.memory.increment(now as f64 - before as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorder::tests::{rendered, value};
    use super::*;

    #[test]
    fn every_series_of_the_process_exists_at_zero_from_the_start() {
        let text = rendered(|| drop(RelayMetrics::new()));
        let errors = DatabaseOperation::ALL.map(|of| format!(r#"outboxd_database_errors_total{{operation="{}"}}"#, of.as_str()));
        let wake_ups = WakeUpSource::ALL.map(|of| format!(r#"outboxd_wake_ups_total{{source="{}"}}"#, of.as_str()));
        let others = [
            "outboxd_ready",
            "outboxd_leases_held",
            "outboxd_leases_lost_total",
            "outboxd_last_read_timestamp_seconds",
            "outboxd_flush_duration_seconds_count",
            "outboxd_retention_removed_total",
            "outboxd_reloads_total{outcome=\"refused\"}",
            "outboxd_reload_refused",
            "outboxd_memory_bytes",
        ];
        for series in errors.iter().chain(&wake_ups).map(String::as_str).chain(others) {
            assert_eq!(value(&text, series), Some(0.0), "{series}");
        }
    }

    #[test]
    fn what_is_reported_is_what_is_seen() {
        let text = rendered(|| {
            let metrics = RelayMetrics::new();
            metrics.ready(true);
            metrics.leases_held(4);
            metrics.lease_lost();
            metrics.read_at(Duration::from_millis(1_700_000_000_500));
            metrics.database_error(DatabaseOperation::Flush);
            metrics.woken(WakeUpSource::Poll);
            metrics.flushed(Duration::from_millis(3));
            metrics.removed(500);
            metrics.memory(0, 1 << 20);
            metrics.memory(0, 500);
            metrics.memory(1 << 20, 24);
        });
        for (series, expected) in [
            ("outboxd_ready", 1.0),
            ("outboxd_leases_held", 4.0),
            ("outboxd_leases_lost_total", 1.0),
            ("outboxd_last_read_timestamp_seconds", 1_700_000_000.5),
            (r#"outboxd_database_errors_total{operation="flush"}"#, 1.0),
            (r#"outboxd_wake_ups_total{source="poll"}"#, 1.0),
            ("outboxd_flush_duration_seconds_sum", 0.003),
            ("outboxd_retention_removed_total", 500.0),
            ("outboxd_memory_bytes", 524.0),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series}");
        }
    }
}
