//! Rest: whether the books of a loop contain work, for now or for soon.

use super::Books;

impl Books {
    /// Nothing is held, recorded or to be recorded, and no destination is in trouble.
    pub fn is_at_rest(&self) -> bool {
        let has_work = self.needs_flush() || self.outstanding() > 0 || self.unfinished > 0 || self.lanes.held() > 0;
        let is_quiet = self.circuit.is_closed() && self.destinations.is_quiet() && self.suspects.is_empty();
        !has_work && is_quiet && self.held_until.is_none() && !self.circuit_news && self.destination_changes.is_empty()
    }
}
