//! Brownouts: times in which a version is not sent on purpose, so that a receiver that has overlooked the end of a version
//! notices it before that end. Nothing is lost: handlers wait, and clients are told when to come back.
//!
//! A brownout is no failure. The loop checks for it before it begins an attempt and holds the handler
//! (`relay::subscription::attempts`), so neither the attempts nor the circuit nor the concurrency are affected.

use crate::domain::Timestamp;

/// One such time. Begins at `from`, and has ended at `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brownout {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Brownout {
    /// Longest that one may last, in seconds: it is a warning and no outage.
    pub const LONGEST: u64 = 86_400;

    pub fn includes(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    /// The mistake in this brownout alone; `None`: it is valid.
    pub fn fault(&self) -> Option<String> {
        let Self { from, until } = self;
        if until <= from {
            return Some(format!("the brownout from {from} has to end later, and not at {until}"));
        }
        let is_long = until.since(*from).as_secs() > Self::LONGEST;
        is_long.then(|| format!("the brownout from {from} until {until} is longer than a day; it is a warning and no outage"))
    }
}

/// A brownout that is in force now, of a version that a receiver is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InBrownout<'p> {
    pub event_type: &'p str,
    pub version: u32,
    pub until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brownout_is_a_bounded_time() {
        let brownout =
            |from: &str, until: &str| Brownout { from: from.parse().expect("a time"), until: until.parse().expect("a time") };
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let hour = brownout("2026-12-01T08:00:00Z", "2026-12-01T10:00:00+01:00");
        assert_eq!(hour.fault(), None);
        for (now, want) in [
            ("2026-12-01T07:59:59Z", false),
            ("2026-12-01T08:00:00Z", true),
            ("2026-12-01T08:59:59Z", true),
            ("2026-12-01T09:00:00Z", false),
        ] {
            assert_eq!(hour.includes(at(now)), want, "{now}");
        }
        for (from, until, want) in [
            ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z", "has to end later"),
            ("2026-12-01T08:00:00Z", "2026-12-01T07:00:00Z", "has to end later"),
            ("2026-12-01T08:00:00Z", "2026-12-02T08:00:01Z", "longer than a day"),
        ] {
            assert!(brownout(from, until).fault().is_some_and(|fault| fault.contains(want)), "{from} {until}");
        }
    }
}
