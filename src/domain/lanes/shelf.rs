//! The shelf: all lanes, found by a notification: by its key, or as a lane of its own where it has none.

use std::collections::HashMap;

use super::LaneRef;
use super::lane::Lane;

/// The lanes that something is known of.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) keyed: HashMap<String, Lane>,
    alone: HashMap<i64, Lane>,
}

impl Shelf {
    pub(super) fn get(&self, key: LaneRef<'_>) -> Option<&Lane> {
        match key {
            LaneRef::Key(key) => self.keyed.get(key),
            LaneRef::Alone(seq) => self.alone.get(&seq),
        }
    }

    pub(super) fn get_mut(&mut self, key: LaneRef<'_>) -> Option<&mut Lane> {
        match key {
            LaneRef::Key(key) => self.keyed.get_mut(key),
            LaneRef::Alone(seq) => self.alone.get_mut(&seq),
        }
    }

    pub(super) fn get_or_open(&mut self, key: LaneRef<'_>) -> &mut Lane {
        match key {
            LaneRef::Key(key) => self.keyed.entry(key.to_owned()).or_default(),
            LaneRef::Alone(seq) => self.alone.entry(seq).or_default(),
        }
    }

    pub(super) fn close(&mut self, key: LaneRef<'_>) {
        match key {
            LaneRef::Key(key) => self.keyed.remove(key),
            LaneRef::Alone(seq) => self.alone.remove(&seq),
        };
    }
}
