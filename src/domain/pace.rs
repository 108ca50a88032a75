//! A pace: how many events a loop may read now, for the setting `backfill`. Time is an argument: a monotonic reading.
//!
//! `backfill` bounds how fast a loop reads history, which is a window that begins before everything: the first window of a new
//! handler with `start = "beginning"`, and that of a rewind. Whether a window is history is part of the stored position, so the
//! bound outlives restarts.
//!
//! New events of the same handler wait until its history is read. A second subscription could deliver them earlier, but no cheap
//! test shows whether a key still has history ahead, and an event that overtakes its own past breaks the order of its key. An
//! operator who wants that configures two handlers with two names.
//!
//! A burst is a tenth of a second's worth of events, so that a page is worth its statement.

use std::time::Duration;

/// A bound on events per second.
#[derive(Debug, Clone)]
pub struct Pace {
    per_second: f64,
    allowance: f64,
    at: Duration,
}

impl Pace {
    /// `per_second` is at least one.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second.max(1)), allowance: 0.0, at: Duration::ZERO }
    }

    /// How many may be read now; zero: wait first.
    pub fn room(&mut self, now: Duration) -> u32 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now.max(self.at);
        self.allowance = (self.allowance + passed * self.per_second).min(self.burst());
        // A hair below the burst is the burst: time that was waited for must not turn out too short by rounding.
        if self.allowance + 1e-6 >= self.burst() { self.burst() as u32 } else { 0 }
    }

    /// So many were read.
    pub fn spend(&mut self, events: usize) {
        self.allowance -= events as f64;
    }

    /// How long until there is room, as of the last look.
    pub fn wait(&self) -> Duration {
        Duration::from_secs_f64(((self.burst() - self.allowance) / self.per_second).max(0.0))
    }

    fn burst(&self) -> f64 {
        (self.per_second / 10.0).floor().max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads as much as it may for so long, whenever it may, and gives how much that was.
    fn read_for(pace: &mut Pace, time: Duration) -> u64 {
        let (mut now, mut read) = (Duration::ZERO, 0);
        while now <= time {
            match pace.room(now) {
                0 => now += pace.wait().max(Duration::from_micros(1)),
                room => {
                    pace.spend(room as usize);
                    read += u64::from(room);
                }
            }
        }
        read
    }

    #[test]
    fn a_pace_is_kept_and_not_undercut() {
        for (per_second, seconds) in [(1, 10), (7, 60), (500, 10), (100_000, 2)] {
            let read = read_for(&mut Pace::new(per_second), Duration::from_secs(seconds));
            let bound = u64::from(per_second) * seconds;
            assert!((bound - bound / 10..=bound + 1).contains(&read), "{per_second}/s: {read} in {seconds} s");
        }
    }

    #[test]
    fn time_without_reading_is_not_saved_up() {
        let mut pace = Pace::new(500);
        assert_eq!(pace.room(Duration::from_secs(3600)), 50);
        pace.spend(50);
        assert_eq!(pace.room(Duration::from_secs(3600)), 0);
        assert_eq!(pace.wait(), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn no_reading_exceeds_the_pace(per_second in 1u32..100_000, millis in 1u64..5_000) {
            let read = read_for(&mut Pace::new(per_second), Duration::from_millis(millis));
            prop_assert!(read as f64 <= f64::from(per_second) * millis as f64 / 1e3 + 1.0);
        }
    }
}
