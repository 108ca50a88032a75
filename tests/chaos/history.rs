//! Everything that is known after a run, as plain data: what the checker judges. Made by reading, judged elsewhere.

mod read;

use std::collections::HashMap;

use crate::clients::Reading;
use crate::clock::Moment;
use crate::faults::Fault;
use crate::ledger::{Event, EventNumber, Receipt};
use crate::monitor::{Idle, Sample};

pub use read::{PASSED_OVER, read};

/// A delivery that ended as a dead letter and still is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter {
    pub event: EventNumber,
    pub handler: u8,
    /// Attempts by its row.
    pub attempts: i32,
    /// The newest attempt in its history, if it was final or none was left; `None`: it was not, or there is none.
    pub last_final: Option<i32>,
    pub reason: Why,
    /// The newest attempt in its history was answered 404.
    pub was_unknown: bool,
}

/// What a dead letter says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A reason, an answer or a group of errors is missing.
    Untold,
    NotFound,
    Exhausted,
    Other,
}

/// A change of a subscription, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub at: Moment,
    /// The role of the session: a relay's place, or somebody else.
    pub role: String,
    pub subscription: i32,
    pub epoch_before: i64,
    pub epoch: i64,
    pub owner_before: Option<String>,
    pub owner: Option<String>,
    /// Until when the lease ran that was there before.
    pub lease_before: Moment,
    pub read_before: i64,
    pub read_to: i64,
    pub is_position: bool,
    pub same_window: bool,
    pub window_before: Option<i64>,
    pub window: Option<i64>,
}

/// A table of ours after quiescence and a vacuum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub dead_rows: i64,
    pub bytes: i64,
    /// Its size has nothing to do with how many events there were.
    pub is_small: bool,
}

/// Times at which a relay said itself that it lost what it had in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub relay: u8,
    pub at: Moment,
}

/// The history of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub seed: u64,
    /// By number.
    pub events: Vec<Event>,
    /// By number: whether it is in the log in the end.
    pub stored: Vec<bool>,
    /// By handler, in the order of arrival; of the function its effects, in the order in which they were made.
    pub receipts: Vec<Vec<Receipt>>,
    /// By client of the feed.
    pub readings: Vec<Reading>,
    pub dead: Vec<DeadLetter>,
    pub faults: Vec<Fault>,
    pub restarts: Vec<Restart>,
    pub moves: Vec<Move>,
    pub idle: Vec<Idle>,
    pub samples: Vec<Sample>,
    pub tables: Vec<Table>,
    /// Rows of deliveries that should not be as they are, and what is wrong with them.
    pub odd_rows: Vec<(Option<EventNumber>, String)>,
    /// What was noticed on the way: a relay that did not stop well, a request that was not signed, a panic in a log.
    pub complaints: Vec<String>,
    /// Nothing moved any more although something was owed.
    pub is_stuck: bool,
}

impl History {
    pub fn is_stored(&self, event: EventNumber) -> bool {
        self.stored.get(event as usize).copied().unwrap_or(false)
    }

    /// Stored events by key and version.
    pub fn by_version(&self) -> HashMap<(u16, u32), EventNumber> {
        let numbered = (0..).zip(&self.events);
        numbered
            .filter(|(number, event)| event.key != 0 && self.is_stored(*number))
            .map(|(number, event)| ((event.key, event.version), number))
            .collect()
    }
}
