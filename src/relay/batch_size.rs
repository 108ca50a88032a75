//! Batch size: how many functions are called in one statement. Pure: time is an argument.

use std::time::Duration;

/// How many events are called in one statement: twice as many as the last time while that is quick, and fewer as soon as it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    limit: usize,
}

impl BatchSize {
    const FIRST: usize = 16;
    const MOST: usize = 500;

    pub fn new() -> Self {
        Self { limit: Self::FIRST }
    }

    /// Events of the next statement, at most.
    pub fn limit(self) -> usize {
        self.limit
    }

    /// So many calls took so long; those of one statement must not need more than half of `allowance`, because no call is like another.
    pub fn measured(&mut self, calls: usize, took: Duration, allowance: Duration) {
        if calls == 0 {
            return;
        }
        let affordable = (calls as f64 * (allowance / 2).as_secs_f64() / took.as_secs_f64().max(1e-6)) as usize;
        let wanted = if calls >= self.limit { self.limit * 2 } else { self.limit };
        self.limit = wanted.min(affordable).clamp(1, Self::MOST);
    }

    /// A statement was cut short.
    pub fn ran_out_of_time(&mut self) {
        self.limit = (self.limit / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Duration = Duration::from_millis(1_500);

    #[test]
    fn a_batch_grows_while_it_is_quick_and_shrinks_to_what_can_be_afforded() {
        let mut size = BatchSize::new();
        for _ in 0..10 {
            size.measured(size.limit, Duration::from_millis(1), ALLOWANCE);
        }
        assert_eq!(size.limit, BatchSize::MOST);
        size.ran_out_of_time();
        assert_eq!(size.limit, BatchSize::MOST / 2);
        size.measured(15, ALLOWANCE, ALLOWANCE);
        assert_eq!(size.limit, 7, "seen: at 100 ms a call, 500 calls could never end within a statement timeout of 30 s");
        size.measured(7, Duration::from_millis(700), ALLOWANCE);
        assert_eq!(size.limit, 7);
        size.measured(1, Duration::from_secs(30), ALLOWANCE);
        assert_eq!(size.limit, 1);
        size.measured(1, Duration::from_micros(50), ALLOWANCE);
        assert_eq!(size.limit, 2);
        size.measured(0, Duration::ZERO, ALLOWANCE);
        assert_eq!(size.limit, 2);
    }
}
