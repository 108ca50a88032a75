//! Suspects: events that were in flight when the broker ended the session because of one of them, without saying which. Each is
//! sent alone the next time, so that the answer is about it; all other events are not affected.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// More than can be in flight; some never come back, because an operator has discarded them.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Suspects(Mutex<HashSet<Uuid>>);

impl Suspects {
    pub fn has(&self, id: Uuid) -> bool {
        self.lock().contains(&id)
    }

    pub fn add(&self, id: Uuid) {
        let mut ids = self.lock();
        if ids.len() >= MOST {
            ids.clear();
        }
        ids.insert(id);
    }

    /// The broker has answered about it.
    pub fn clear(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_forgotten_when_they_are_answered_or_too_many() {
        let suspects = Suspects::default();
        let first = Uuid::from_u128(1);
        suspects.add(first);
        assert!(suspects.has(first));
        suspects.clear(first);
        assert!(!suspects.has(first));
        (0..=MOST as u128).for_each(|number| suspects.add(Uuid::from_u128(number)));
        assert_eq!(suspects.lock().len(), 1);
    }
}
