//! The states of a delivery.

use std::fmt;
use std::str::FromStr;

/// Where a delivery stands. A delivery that was never recorded is *pending*: it is still in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Handled.
    Delivered,
    /// Failed, due again later.
    Retrying,
    /// Held behind an earlier event of its key; not attempted.
    Waiting,
    /// Given up on; kept until an operator replays or discards it.
    Dead,
    /// An operator decided that it will not be delivered.
    Discarded,
}

impl DeliveryState {
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Retrying, Self::Waiting, Self::Dead, Self::Discarded];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }

    /// Whether retention may remove the event of a delivery in this state.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Delivered | Self::Discarded)
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeliveryState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}
