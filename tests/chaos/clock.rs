//! The clock of a run: milliseconds since its beginning, small enough to be kept a million times.
//! Anchored to the wall clock once, so that times of the database and of logs on the same machine can be compared with it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the beginning of the run.
pub type Moment = u32;

#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    began_wall: Duration,
}

impl Clock {
    pub fn start() -> Self {
        let began_wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        Self { began: Instant::now(), began_wall }
    }

    pub fn now(&self) -> Moment {
        millis(self.began.elapsed())
    }

    /// Of a time on the wall clock, in microseconds since 1970; zero before the run.
    pub fn at_micros(&self, micros: i64) -> Moment {
        millis(Duration::from_micros(u64::try_from(micros).unwrap_or(0)).saturating_sub(self.began_wall))
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

pub fn millis(duration: Duration) -> Moment {
    Moment::try_from(duration.as_millis()).unwrap_or(Moment::MAX)
}

/// For people.
pub fn seconds(moment: Moment) -> String {
    format!("{:.3}s", f64::from(moment) / 1000.0)
}
