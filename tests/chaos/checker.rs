//! From a history to its violations: pure, one rule per file, each with small made-up histories that break it and one that does not.

mod bytes;
mod dead_letters;
mod duplicates;
mod epochs;
mod feed;
mod growth;
mod log;
mod loss;
mod notes;
mod order;
mod phantoms;
mod recovery;
#[cfg(test)]
mod sample;
mod sessions;

use crate::clock::Moment;
use crate::history::History;
use crate::ledger::EventNumber;

pub use duplicates::count_by_reason;
pub use recovery::slowest;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub event: Option<EventNumber>,
    /// Around when, to find the faults and the lines of logs that belong to it.
    pub at: Option<Moment>,
    pub what: String,
}

type Rule = fn(&History) -> Vec<Violation>;

const RULES: [Rule; 12] = [
    log::check,
    loss::check,
    phantoms::check,
    bytes::check,
    order::check,
    duplicates::check,
    dead_letters::check,
    epochs::check,
    sessions::check,
    growth::check,
    feed::check,
    recovery::check,
];

/// Everything that is wrong.
pub fn check(history: &History) -> Vec<Violation> {
    RULES.iter().chain([&(notes::check as Rule)]).flat_map(|rule| rule(history)).collect()
}
