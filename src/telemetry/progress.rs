//! The progress of one subscription, as its loop reports it: the last successful read and flush, and the error that
//! prevents progress. `Health` keeps one for each subscription that this instance owns; the observer stores them in
//! the table `progress`.
//!
//! A handler is *stuck* when its loop has failed three times in a row or for ten seconds without a read and a recorded outcome
//! since, or when it has been silent for `http.stall_after`. `status`, `handlers list`, `/readyz`, the metrics and the alert
//! `handler_stuck` read the same row or the same memory. An owner that has recorded nothing for too long counts as stuck, too,
//! because the owner of an idle handler records its position every five seconds.
//!
//! Pure: the time is an argument.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::DatabaseOperation;

/// Why a loop could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The operation that failed.
    pub operation: DatabaseOperation,
    /// Of the server's answer, if the server gave one.
    pub sqlstate: Option<String>,
    /// The event at which it happened, where that is known.
    pub event: Option<Uuid>,
    /// For display; free of secrets.
    pub text: String,
}

/// A subscription that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    pub since: Instant,
    pub last: Instant,
    /// How often its loop has failed; 0: it has fallen silent without an error.
    pub failures: u64,
    pub failure: Failure,
}

/// The reports of one loop so far.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The last read that succeeded, or the last moment at which the loop did not read on purpose; at first the take-over.
    heard: Instant,
    has_read: bool,
    /// The last flush that succeeded; at first the take-over.
    recorded: Instant,
    has_recorded: bool,
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone)]
struct Trouble {
    failing: Failing,
    /// Since the last failure.
    has_read: bool,
    has_recorded: bool,
}

/// A failure that comes back within this time is the same one: its beginning stays.
const SAME_TROUBLE: Duration = Duration::from_secs(90);
/// A loop that has read and recorded again, and has not failed for this time, has recovered. Longer than a loop needs to meet the same
/// error again after its restart.
const RECOVERED: Duration = Duration::from_secs(2);
/// One failure is a connection that was cut. So many in a row, or one that has lasted for so long, stop a handler.
const STUCK_FAILURES: u64 = 3;
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// Even an idle loop records its position every five seconds.
const SHORTEST_RECORDING_STALL: Duration = Duration::from_secs(15);

/// Whether failures of this number and duration keep a handler from going on, instead of being one bad moment.
pub fn is_stuck(failures: u64, lasted: Duration) -> bool {
    failures == 0 || failures >= STUCK_FAILURES || lasted >= STUCK_AFTER
}

impl Progress {
    /// Just taken over: it has until the bound for its first read.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, has_read: false, recorded: now, has_recorded: false, trouble: None }
    }

    /// A read succeeded, or was left out on purpose.
    pub fn read(&mut self, now: Instant) {
        (self.heard, self.has_read) = (now, true);
        if let Some(trouble) = &mut self.trouble {
            trouble.has_read = true;
        }
    }

    /// A flush succeeded. `is_proof`: it wrote outcomes, or there were none to write.
    pub fn flushed(&mut self, is_proof: bool, now: Instant) {
        (self.recorded, self.has_recorded) = (now, true);
        if let Some(trouble) = &mut self.trouble {
            trouble.has_recorded |= is_proof;
        }
    }

    /// The loop ended with an error and will be started again.
    pub fn failed(&mut self, failure: Failure, now: Instant) {
        let known = self.trouble.take().filter(|known| now.saturating_duration_since(known.failing.last) < SAME_TROUBLE);
        let (since, failures) = known.map_or((now, 0), |known| (known.failing.since, known.failing.failures));
        let failing = Failing { since, last: now, failures: failures + 1, failure };
        self.trouble = Some(Trouble { failing, has_read: false, has_recorded: false });
    }

    /// The reason why it makes no progress: the error of its loop, or its silence.
    pub fn failing(&self, stall_after: Duration, now: Instant) -> Option<Failing> {
        let recovered = |trouble: &&Trouble| {
            trouble.has_read && trouble.has_recorded && now.saturating_duration_since(trouble.failing.last) >= RECOVERED
        };
        if let Some(trouble) = self.trouble.as_ref().filter(|trouble| !recovered(trouble)) {
            return Some(trouble.failing.clone());
        }
        let silent = |since: Instant, bound: Duration, operation: DatabaseOperation, what: &str| {
            let lasted = now.saturating_duration_since(since);
            (lasted > bound).then(|| {
                let text = format!("{what} for {} s, and no error has been reported", lasted.as_secs());
                Failing { since, last: now, failures: 0, failure: Failure { operation, sqlstate: None, event: None, text } }
            })
        };
        silent(self.heard, stall_after, DatabaseOperation::Read, "the log has not been read").or_else(|| {
            let bound = stall_after.max(SHORTEST_RECORDING_STALL);
            silent(self.recorded, bound, DatabaseOperation::Flush, "nothing could be recorded")
        })
    }

    /// How long ago the last read and the last flush succeeded; `None`: there was none since the take-over.
    pub fn successes(&self, now: Instant) -> (Option<Duration>, Option<Duration>) {
        let since = |moment: Instant, has_been: bool| has_been.then(|| now.saturating_duration_since(moment));
        (since(self.heard, self.has_read), since(self.recorded, self.has_recorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    fn failure(text: &str) -> Failure {
        Failure { operation: DatabaseOperation::Flush, sqlstate: Some("54000".to_owned()), event: None, text: text.to_owned() }
    }

    #[test]
    fn a_loop_that_fails_again_and_again_keeps_the_beginning_and_shows_the_last_error() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut progress = Progress::new(start);
        progress.failed(failure("first"), at(1));
        // Restarted, it reads the same page and writes its unchanged position before it fails again.
        progress.read(at(2));
        progress.flushed(false, at(3));
        assert!(progress.failing(STALL, at(20)).is_some(), "a flush without outcomes proves nothing");
        progress.failed(failure("second"), at(31));
        let failing = progress.failing(STALL, at(32)).expect("it fails");
        assert_eq!((failing.since, failing.last, failing.failures), (at(1), at(31), 2));
        assert_eq!(failing.failure.text, "second");
    }

    #[test]
    fn a_loop_that_reads_and_records_again_has_recovered() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut progress = Progress::new(start);
        progress.failed(failure("cut"), at(1));
        progress.read(at(2));
        progress.flushed(true, at(2));
        assert!(progress.failing(STALL, at(2)).is_some(), "it may meet the same error in a moment");
        assert_eq!(progress.failing(STALL, at(3)), None);
        progress.failed(failure("cut again"), at(60));
        assert_eq!(progress.failing(STALL, at(60)).expect("it fails").since, at(1));
        progress.read(at(61));
        progress.flushed(true, at(61));
        progress.failed(failure("another day"), at(200));
        let failing = progress.failing(STALL, at(200)).expect("it fails");
        assert_eq!((failing.since, failing.failures), (at(200), 1));
    }

    #[test]
    fn a_loop_that_hangs_without_an_error_is_told_by_its_silence() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut progress = Progress::new(start);
        assert_eq!(progress.failing(STALL, at(30)), None);
        progress.flushed(true, at(25));
        let failing = progress.failing(STALL, at(31)).expect("no read");
        assert_eq!((failing.failure.operation, failing.since, failing.failures), (DatabaseOperation::Read, start, 0));
        progress.read(at(50));
        let failing = progress.failing(STALL, at(56)).expect("no flush");
        assert_eq!((failing.failure.operation, failing.since), (DatabaseOperation::Flush, at(25)));
        assert_eq!(progress.successes(at(56)), (Some(Duration::from_secs(6)), Some(Duration::from_secs(31))));
    }

    #[test]
    fn one_cut_connection_is_not_a_stuck_handler() {
        for (failures, seconds, stuck) in [(1, 1, false), (2, 9, false), (3, 1, true), (1, 10, true), (0, 1, true)] {
            assert_eq!(is_stuck(failures, Duration::from_secs(seconds)), stuck, "{failures} in {seconds} s");
        }
    }
}
