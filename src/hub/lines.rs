//! The connections of this instance, by their ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::line::Line;

#[derive(Default)]
pub struct Lines(Mutex<HashMap<Uuid, Arc<Line>>>);

impl Lines {
    pub fn find(&self, id: Uuid) -> Option<Arc<Line>> {
        self.all().get(&id).cloned()
    }

    pub fn insert(&self, line: &Arc<Line>) {
        self.all().insert(line.id, Arc::clone(line));
    }

    pub fn remove(&self, id: Uuid) {
        self.all().remove(&id);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
