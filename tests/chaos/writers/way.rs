//! How a transaction goes, and how often.

use fastrand::Rng;

/// How a transaction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Plain,
    /// Gets its number first and the lock on its counter later: what makes an order by transaction wrong.
    EarlyNumber,
    RolledBack,
    /// Some of it vanishes in a savepoint while the rest goes on.
    Savepoint,
    SeveralKeys,
    /// Does not wait for the disk.
    Unflushed,
    WithoutKey,
    Prepared,
    /// Stays open for seconds.
    Long,
    /// Many events at once.
    Many,
    /// The connection goes in the middle of it.
    Vanishes,
}

const SHARES: [(Way, u32); 11] = [
    (Way::Plain, 4_000),
    (Way::EarlyNumber, 1_300),
    (Way::RolledBack, 800),
    (Way::Savepoint, 800),
    (Way::SeveralKeys, 1_100),
    (Way::Unflushed, 1_200),
    (Way::WithoutKey, 600),
    (Way::Prepared, 80),
    (Way::Long, 8),
    (Way::Many, 10),
    (Way::Vanishes, 20),
];

impl Way {
    pub fn draw(rng: &mut Rng) -> Self {
        let mut rest = rng.u32(0..SHARES.iter().map(|(_, share)| share).sum());
        for (way, share) in SHARES {
            if rest < share {
                return way;
            }
            rest -= share;
        }
        Self::Plain
    }

    /// Counters that it changes.
    pub fn keys(self, rng: &mut Rng) -> usize {
        match self {
            Self::SeveralKeys => rng.usize(2..=5),
            Self::WithoutKey => 0,
            _ => 1,
        }
    }
}
