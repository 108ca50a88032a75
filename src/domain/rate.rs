//! A rate limit: how many attempts a handler may begin now, or how many requests a client may make. It never refuses an attempt; it
//! delays the next one. The feed refuses a request without a token (`feed::access`), and its buckets begin full.
//!
//! A token bucket: each attempt takes one token, and tokens come back at the rate. Each loop has a bucket of its own with an
//! equal part of the rate and of the burst. Partitions therefore need no agreement, and no statement is spent on the rate.
//!
//! - A bucket begins with one token. A full bucket for each owner would let a subscription that changes hands exceed its rate.
//! - The loop takes its token before it consults the circuit, because a probe that the circuit has admitted must go out.
//! - The kind `sql` takes one token per event of a batch, and gives back those of events that were not called.
//! - When the bucket is empty, the timer of the loop is set to the next token only if the rate alone holds an attempt back.
//!   Otherwise a loop whose attempts are all in flight would spin (`relay::subscription`).
//!
//! Time is an argument: a monotonic reading.

use std::time::Duration;

/// The most attempts that a receiver gets: so many per second in the long run, and a burst of them at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Above zero.
    per_second: f64,
    /// At least one.
    burst: f64,
}

impl RateLimit {
    /// `attempts` in each `period`, and at most `burst` of them at once. `None` if one of the three is zero.
    pub fn new(attempts: u32, period: Duration, burst: u32) -> Option<Self> {
        let is_valid = attempts > 0 && !period.is_zero() && burst > 0;
        is_valid.then(|| Self { per_second: f64::from(attempts) / period.as_secs_f64(), burst: f64::from(burst) })
    }

    /// The part of one partition. Partitions do not know of one another, so each gets an equal part, and each must be able to begin
    /// one attempt.
    #[must_use]
    pub fn share(self, partitions: u16) -> Self {
        let partitions = f64::from(partitions.max(1));
        Self { per_second: self.per_second / partitions, burst: (self.burst / partitions).max(1.0) }
    }
}

/// The tokens of one loop.
#[derive(Debug, Clone)]
pub struct Allowance {
    limit: RateLimit,
    tokens: f64,
    at: Duration,
}

impl Allowance {
    /// Begins with one token: the loops of a subscription follow one another, and a full burst for each would exceed the rate.
    pub fn new(limit: RateLimit, now: Duration) -> Self {
        Self { limit, tokens: 1.0, at: now }
    }

    /// Starts with the whole burst: for requests of a client, which has made none before.
    pub fn full(limit: RateLimit, now: Duration) -> Self {
        Self { limit, tokens: limit.burst, at: now }
    }

    /// How many attempts may begin now; zero: wait first.
    pub fn room(&mut self, now: Duration) -> usize {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now.max(self.at);
        self.tokens = (self.tokens + passed * self.limit.per_second).min(self.limit.burst);
        // A hair below one is one: time that was waited for must not turn out too short by rounding.
        (self.tokens + 1e-6) as usize
    }

    /// So many attempts begin; at most as many as there was room for.
    pub fn spend(&mut self, attempts: usize) {
        self.tokens -= attempts as f64;
    }

    /// So many attempts were spent and never made.
    pub fn give_back(&mut self, attempts: usize) {
        self.tokens = (self.tokens + attempts as f64).min(self.limit.burst);
    }

    /// How long until the next attempt may begin, as of the last look.
    pub fn wait(&self) -> Duration {
        Duration::from_secs_f64(((1.0 - self.tokens) / self.limit.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(attempts: u32, period: Duration, burst: u32) -> RateLimit {
        RateLimit::new(attempts, period, burst).expect("a valid limit")
    }

    /// Begins as many attempts as it may for so long, whenever it may, and gives when each began.
    fn begin_for(allowance: &mut Allowance, time: Duration) -> Vec<Duration> {
        let (mut now, mut begun) = (Duration::ZERO, Vec::new());
        while now <= time {
            match allowance.room(now) {
                0 => now += allowance.wait().max(Duration::from_micros(1)),
                room => {
                    allowance.spend(room);
                    begun.extend(std::iter::repeat_n(now, room));
                }
            }
        }
        begun
    }

    #[test]
    fn a_limit_without_attempts_period_or_burst_does_not_exist() {
        assert_eq!(RateLimit::new(0, SECOND, 1), None);
        assert_eq!(RateLimit::new(1, Duration::ZERO, 1), None);
        assert_eq!(RateLimit::new(1, SECOND, 0), None);
    }

    #[test]
    fn time_without_attempts_is_saved_up_to_the_burst_and_then_the_rate_holds() {
        let mut allowance = Allowance::new(limit(10, SECOND, 3), Duration::ZERO);
        assert_eq!(allowance.room(Duration::from_secs(3600)), 3);
        allowance.spend(3);
        assert_eq!((allowance.room(Duration::from_secs(3600)), allowance.wait()), (0, Duration::from_millis(100)));
        assert_eq!(allowance.room(Duration::from_millis(3_600_100)), 1);
    }

    #[test]
    fn a_loop_begins_with_one_attempt_and_not_with_a_burst() {
        let mut allowance = Allowance::new(limit(1, SECOND, 50), Duration::from_secs(9));
        assert_eq!(allowance.room(Duration::from_secs(9)), 1);
        assert_eq!(allowance.room(Duration::from_secs(10)), 2);
    }

    #[test]
    fn a_full_bucket_begins_with_its_burst_and_no_more() {
        let mut allowance = Allowance::full(limit(2, SECOND, 5), Duration::from_secs(9));
        assert_eq!(allowance.room(Duration::from_secs(9)), 5);
        allowance.spend(5);
        assert_eq!((allowance.room(Duration::from_secs(9)), allowance.wait()), (0, SECOND / 2));
    }

    #[test]
    fn an_attempt_that_was_not_made_is_given_back_up_to_the_burst() {
        let mut allowance = Allowance::new(limit(1, SECOND, 2), Duration::ZERO);
        allowance.spend(1);
        allowance.give_back(1);
        assert_eq!(allowance.room(Duration::ZERO), 1);
        allowance.give_back(9);
        assert_eq!(allowance.room(Duration::ZERO), 2);
    }

    #[test]
    fn partitions_share_the_rate_and_the_burst_in_equal_parts() {
        let shared = limit(9, SECOND, 6).share(3);
        assert_eq!(shared, limit(3, SECOND, 2));
        assert_eq!(limit(9, SECOND, 2).share(3).burst, 1.0, "each must be able to begin one");
    }

    #[test]
    fn a_rate_is_kept_and_not_undercut() {
        for (attempts, period, seconds) in
            [(1, SECOND, 10), (200, SECOND, 10), (100, 60 * SECOND, 600), (5_000, 3600 * SECOND, 3600)]
        {
            let mut allowance = Allowance::new(limit(attempts, period, 1), Duration::ZERO);
            let begun = begin_for(&mut allowance, Duration::from_secs(seconds)).len() as f64;
            let bound = f64::from(attempts) / period.as_secs_f64() * seconds as f64;
            assert!((bound * 0.99..=bound + 1.0).contains(&begun), "{attempts} per {period:?}: {begun} in {seconds} s");
        }
    }

    proptest! {
        /// In any stretch of time, not only from the beginning on.
        #[test]
        fn no_receiver_gets_more_than_the_burst_and_the_rate(
            attempts in 1u32..2_000, burst in 1u32..100, partitions in 1u16..8, idle in 0u64..2_000, millis in 1u64..2_000
        ) {
            let shared = limit(attempts, SECOND, burst).share(partitions);
            let mut allowance = Allowance::new(shared, Duration::ZERO);
            allowance.room(Duration::from_millis(idle));
            let begun = begin_for(&mut allowance, Duration::from_millis(idle + millis));
            for (first, from) in begun.iter().enumerate().step_by(7) {
                for (last, to) in begun.iter().enumerate().skip(first).step_by(5) {
                    let bound = shared.burst + shared.per_second * (*to - *from).as_secs_f64() + 1e-3;
                    prop_assert!((last - first + 1) as f64 <= bound, "{} from {from:?} to {to:?}, at most {bound}", last - first + 1);
                }
            }
        }
    }
}
