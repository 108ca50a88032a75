//! One lane: the queue of one key and its state. Knows nothing of the room that all lanes share.

use std::collections::VecDeque;

use super::{Notification, Queued};

/// Identifies a lane: the ordering key, or the event itself where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LaneKey {
    Key(String),
    Alone(i64),
}

/// The same without owning it: a lane is looked up several times for every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneRef<'a> {
    Key(&'a str),
    Alone(i64),
}

impl<'a> LaneRef<'a> {
    pub fn of(notification: &'a Notification) -> Self {
        notification.key.as_deref().map_or(Self::Alone(notification.seq), Self::Key)
    }

    pub fn owned(self) -> LaneKey {
        match self {
            Self::Key(key) => LaneKey::Key(key.to_owned()),
            Self::Alone(seq) => LaneKey::Alone(seq),
        }
    }
}

impl LaneKey {
    pub fn borrowed(&self) -> LaneRef<'_> {
        match self {
            Self::Key(key) => LaneRef::Key(key),
            Self::Alone(seq) => LaneRef::Alone(*seq),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<Queued>,
    /// Of what is queued.
    pub(super) bytes: usize,
    /// One of this key is in flight.
    pub(super) is_busy: bool,
    /// The head failed, or is a dead letter that holds its key: the lane moves when its row comes back.
    pub(super) is_blocked: bool,
    /// Listed in `ready`.
    pub(super) is_listed: bool,
    /// Waiting rows that are not in memory.
    pub(super) parked: u64,
    /// A replayed row has waiting rows right behind it that sort before what is queued.
    pub(super) refill_first: bool,
}

impl Lane {
    pub(super) fn push_back(&mut self, queued: Queued) {
        self.bytes += queued.notification.bytes();
        self.queue.push_back(queued);
    }

    pub(super) fn push_front(&mut self, queued: Queued) {
        self.bytes += queued.notification.bytes();
        self.queue.push_front(queued);
    }

    pub(super) fn pop_front(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes -= queued.notification.bytes();
        Some(queued)
    }

    pub(super) fn pop_back(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_back()?;
        self.bytes -= queued.notification.bytes();
        Some(queued)
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.is_busy && !self.is_blocked && self.queue.is_empty() && self.parked == 0
    }

    /// Its waiting rows must be read before it can go on.
    pub(super) fn wants_refill(&self) -> bool {
        self.parked > 0 && !self.is_blocked && !self.is_busy && (self.queue.is_empty() || self.refill_first)
    }

    /// Enters it among those that are ready, where something is queued or will be at once.
    pub(super) fn list(&mut self, key: LaneRef<'_>, ready: &mut VecDeque<LaneKey>) {
        if !self.is_listed && !self.is_busy && !self.is_blocked {
            self.is_listed = true;
            ready.push_back(key.owned());
        }
    }
}
