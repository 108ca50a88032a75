//! An outage of the receiver, as it is planned and as it is told.

use std::time::Duration;

/// A time in which it accepts nothing. Counted from the start of the receiver.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub from: Duration,
    pub until: Duration,
    pub kind: OutageKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageKind {
    /// 503 with `Retry-After`: the relay pauses the handler.
    Maintenance,
    /// 401: the relay opens the handler's circuit.
    Locked,
}
