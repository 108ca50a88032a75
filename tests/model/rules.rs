//! The rules as they are, and each wrong in one way: a checker that finds nothing wrong with a wrong rule proves nothing.

/// Which rule is broken, for the search to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// As the relay does it.
    Right,
    /// A window is `seq > last`.
    Numbers,
    /// A window begins at xmax; transactions that were in progress are forgotten.
    NoStragglers,
    /// A window that is read in pages begins at the bound of the position.
    NoBound,
    /// Below the bound only the transactions that the snapshot lists are looked for, not those that ran above its xmax.
    ListedOnly,
    /// A flush does not ask whether the epoch is still ours.
    NoFence,
    /// Attempts begin whether or not the lease can be trusted.
    NoTrust,
    /// The position is that of the reading head.
    PositionFirst,
    /// What is settled beyond the position is forgotten.
    NoDone,
    /// Done numbers are joined over gaps.
    DoneOverGaps,
    /// What the last owner had settled beyond the position is not written on.
    CarriedForgotten,
    /// Recovery ends with the first window, whoever opened it.
    ShortRecovery,
    /// Deliveries whose outcome is not written are read as due.
    UnwrittenIsDue,
    /// A failed head does not block its key.
    NoBlocking,
}
