//! Backoff: delays between attempts. A `Backoff` that exists is valid, and no draw exceeds its ceiling.

use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    steps: Steps,
    /// Share of the delay by which it may vary both ways, in [0, 1).
    jitter: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Steps {
    Exponential { base: Duration, factor: f64, max_delay: Duration },
    Schedule(Vec<Duration>),
}

/// Why a backoff cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBackoff {
    #[error("the base must be longer than zero")]
    ZeroBase,
    #[error("the factor must be at least 1")]
    ShrinkingFactor,
    #[error("max_delay must not be shorter than the base")]
    CeilingBelowBase,
    #[error("jitter must be at least 0 and below 1")]
    Jitter,
    #[error("the schedule is empty")]
    EmptySchedule,
}

impl Backoff {
    /// `delay(n) = min(max_delay, base * factor^(n-1))`, varied by `jitter` and then clamped again.
    pub fn exponential(base: Duration, factor: f64, max_delay: Duration, jitter: f64) -> Result<Self, InvalidBackoff> {
        if base.is_zero() {
            return Err(InvalidBackoff::ZeroBase);
        }
        if factor.is_nan() || factor < 1.0 {
            return Err(InvalidBackoff::ShrinkingFactor);
        }
        if max_delay < base {
            return Err(InvalidBackoff::CeilingBelowBase);
        }
        Ok(Self { steps: Steps::Exponential { base, factor, max_delay }, jitter: checked_jitter(jitter)? })
    }

    /// An explicit list; its last entry repeats.
    pub fn schedule(delays: Vec<Duration>, jitter: f64) -> Result<Self, InvalidBackoff> {
        if delays.is_empty() {
            return Err(InvalidBackoff::EmptySchedule);
        }
        Ok(Self { steps: Steps::Schedule(delays), jitter: checked_jitter(jitter)? })
    }

    /// Delay after failed attempt `attempt` (from 1). `draw` is in [0, 1). Never longer than [`Backoff::ceiling`].
    pub fn delay(&self, attempt: u32, draw: f64) -> Duration {
        let plain = self.plain(attempt).as_secs_f64();
        let varied = plain * (1.0 + self.jitter * (2.0 * draw.clamp(0.0, 1.0) - 1.0));
        // The ceiling comes last: a promise of "at most max_delay" must survive the jitter.
        Duration::try_from_secs_f64(varied).unwrap_or(self.ceiling()).min(self.ceiling())
    }

    /// The longest delay there can be.
    pub fn ceiling(&self) -> Duration {
        match &self.steps {
            Steps::Exponential { max_delay, .. } => *max_delay,
            Steps::Schedule(delays) => delays.iter().max().copied().unwrap_or_default(),
        }
    }

    /// Time from the first to the last of `attempts` attempts, without jitter and without the time they take.
    pub fn span(&self, attempts: u32) -> Duration {
        (1..attempts).map(|attempt| self.plain(attempt)).sum()
    }

    fn plain(&self, attempt: u32) -> Duration {
        let step = attempt.max(1) - 1;
        match &self.steps {
            Steps::Exponential { base, factor, max_delay } => {
                let seconds = base.as_secs_f64() * factor.powi(step.min(1_000_000).cast_signed());
                Duration::try_from_secs_f64(seconds).unwrap_or(*max_delay).min(*max_delay)
            }
            Steps::Schedule(delays) => delays[(step as usize).min(delays.len() - 1)],
        }
    }
}

fn checked_jitter(jitter: f64) -> Result<f64, InvalidBackoff> {
    if (0.0..1.0).contains(&jitter) { Ok(jitter) } else { Err(InvalidBackoff::Jitter) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_default_grows_by_three_up_to_the_ceiling() {
        let backoff = Backoff::exponential(seconds(5), 3.0, seconds(6 * 3600), 0.0).expect("valid");
        let delays: Vec<_> = (1..=9).map(|attempt| backoff.delay(attempt, 0.5).as_secs()).collect();
        assert_eq!(delays, [5, 15, 45, 135, 405, 1215, 3645, 10_935, 21_600]);
        assert_eq!(backoff.span(12).as_secs() / 3600, 22);
    }

    #[test]
    fn a_schedule_repeats_its_last_entry() {
        let backoff = Backoff::schedule(vec![seconds(1), seconds(60)], 0.0).expect("valid");
        assert_eq!([1, 2, 3, 99].map(|attempt| backoff.delay(attempt, 0.0).as_secs()), [1, 60, 60, 60]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        use InvalidBackoff as I;
        assert_eq!(Backoff::exponential(seconds(0), 2.0, seconds(1), 0.0), Err(I::ZeroBase));
        assert_eq!(Backoff::exponential(seconds(1), 0.5, seconds(1), 0.0), Err(I::ShrinkingFactor));
        assert_eq!(Backoff::exponential(seconds(1), f64::NAN, seconds(1), 0.0), Err(I::ShrinkingFactor));
        assert_eq!(Backoff::exponential(seconds(2), 2.0, seconds(1), 0.0), Err(I::CeilingBelowBase));
        assert_eq!(Backoff::exponential(seconds(1), 2.0, seconds(1), 1.0), Err(I::Jitter));
        assert_eq!(Backoff::schedule(vec![], 0.0), Err(I::EmptySchedule));
    }

    proptest! {
        #[test]
        fn delay_never_exceeds_the_ceiling(base in 1u64..100_000, factor in 1.0f64..100.0, more in 0u64..100_000_000,
                                           jitter in 0.0f64..0.999, attempt: u32, draw in 0.0f64..1.0) {
            let ceiling = Duration::from_millis(base + more);
            let backoff = Backoff::exponential(Duration::from_millis(base), factor, ceiling, jitter).expect("valid");
            prop_assert!(backoff.delay(attempt, draw) <= ceiling);
            prop_assert!(backoff.delay(attempt, draw) >= Duration::from_millis(base).mul_f64((1.0 - jitter) * 0.999));
        }
    }
}
