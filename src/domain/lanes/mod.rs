//! Lanes: per ordering key one notification in flight, the others behind it in order.
//! A failing head blocks its own key only. What stands behind it is *parked*: recorded as waiting, and not held in memory.
//! A lane never holds more than half of the room, so that one slow key cannot keep the others out.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Notification, SegmentId};

/// A notification on its way to an attempt.
#[derive(Debug)]
pub struct Queued {
    pub notification: Box<Notification>,
    pub origin: Origin,
    /// Attempts spent before this one.
    pub attempts: u32,
    /// Microseconds between the first attempt and the reading of this row; zero if there was none.
    pub age_micros: i64,
}

/// Where a queued notification comes from, and so how its outcome is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Read from the log; nothing is recorded yet.
    Log(SegmentId),
    /// Has a delivery row already: retrying or waiting.
    Recorded,
    /// Read from the log and counted in a row before its dispatch, after a crash.
    Counted(SegmentId),
}

impl Origin {
    /// The segment of the log that waits for this outcome.
    pub fn segment(self) -> Option<SegmentId> {
        match self {
            Self::Log(segment) | Self::Counted(segment) => Some(segment),
            Self::Recorded => None,
        }
    }
}

/// Identifies a lane: the ordering key, or the event itself where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LaneKey {
    Key(String),
    Alone(i64),
}

impl LaneKey {
    pub fn of(notification: &Notification) -> Self {
        notification.key.clone().map_or(Self::Alone(notification.seq), Self::Key)
    }
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Queued>,
    /// One of this key is in flight.
    is_busy: bool,
    /// The head failed, or is a dead letter that holds its key: the lane moves when its row comes back.
    is_blocked: bool,
    /// Listed in `ready`.
    is_listed: bool,
    /// Waiting rows that are not in memory.
    parked: u64,
    /// A replayed row has waiting rows right behind it that sort before what is queued.
    refill_first: bool,
}

impl Lane {
    fn is_idle(&self) -> bool {
        !self.is_busy && !self.is_blocked && self.queue.is_empty() && self.parked == 0
    }
}

/// All lanes of one subscription.
#[derive(Debug)]
pub struct Lanes {
    lanes: HashMap<LaneKey, Lane>,
    ready: VecDeque<LaneKey>,
    refill: HashSet<String>,
    /// Notifications held, queued and in flight.
    held: usize,
    held_bytes: usize,
    room: usize,
}

impl Lanes {
    /// Lanes that hold about `room` notifications.
    pub fn new(room: usize) -> Self {
        Self { lanes: HashMap::new(), ready: VecDeque::new(), refill: HashSet::new(), held: 0, held_bytes: 0, room }
    }

    /// Notifications in memory, queued and in flight.
    pub fn held(&self) -> usize {
        self.held
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Keys whose head failed.
    pub fn blocked_keys(&self) -> usize {
        self.lanes.values().filter(|lane| lane.is_blocked).count()
    }

    /// Takes up what the database knows of a key: how many wait, and whether a row of its own will move it.
    pub fn restore(&mut self, key: String, parked: u64, is_blocked: bool) {
        let lane = self.lanes.entry(LaneKey::Key(key.clone())).or_default();
        lane.parked = parked;
        lane.is_blocked = is_blocked;
        if parked > 0 && !is_blocked {
            self.refill.insert(key);
        }
    }

    /// Queues a notification from the log. Gives it back if it must be parked: recorded as waiting.
    pub fn offer(&mut self, queued: Queued) -> Option<Queued> {
        let key = LaneKey::of(&queued.notification);
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.is_blocked || lane.parked > 0 || lane.queue.len() * 2 > self.room {
            lane.parked += 1;
            return Some(queued);
        }
        self.held += 1;
        self.held_bytes += queued.notification.bytes();
        lane.queue.push_back(queued);
        self.list(key);
        None
    }

    /// Whether a recorded row that is due may be queued: its lane is not busy with anything, and nothing in it has a row, which
    /// may be the very same. One that was counted and then returned has one, too, and it is due.
    pub fn wants_due(&self, key: &LaneKey) -> bool {
        let has_row = |queued: &Queued| !matches!(queued.origin, Origin::Log(_));
        self.lanes.get(key).is_none_or(|lane| !lane.is_busy && !lane.queue.iter().any(has_row))
    }

    /// Queues the recorded head of a key whose time has come; `followed`: rows wait behind it.
    pub fn take_due(&mut self, queued: Queued, followed: bool) {
        let key = LaneKey::of(&queued.notification);
        if !self.wants_due(&key) {
            return;
        }
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.is_blocked = false;
        if followed {
            lane.parked = lane.parked.max(1);
            lane.refill_first = true;
        }
        self.held += 1;
        self.held_bytes += queued.notification.bytes();
        lane.queue.push_front(queued);
        self.list(key);
    }

    /// Keys whose waiting rows must be read before they can go on; at most `limit`.
    pub fn take_refills(&mut self, limit: usize) -> Vec<String> {
        let keys: Vec<String> = self.refill.iter().take(limit).cloned().collect();
        for key in &keys {
            self.refill.remove(key);
        }
        keys
    }

    /// Queues waiting rows of a key, in order; `left` rows of it are still parked.
    pub fn refill(&mut self, key: &str, rows: Vec<Queued>, left: u64) {
        let lane_key = LaneKey::Key(key.to_owned());
        let Some(lane) = self.lanes.get_mut(&lane_key) else { return };
        lane.refill_first = false;
        lane.parked = left;
        // A row that went back to blocked while its followers were read keeps them parked.
        if lane.is_blocked {
            lane.parked += rows.len() as u64;
            return;
        }
        self.held += rows.len();
        self.held_bytes += rows.iter().map(|queued| queued.notification.bytes()).sum::<usize>();
        lane.queue.extend(rows);
        lane.queue.make_contiguous().sort_by_key(|queued| queued.notification.seq);
        self.settle(&lane_key);
    }

    /// The next notification to attempt; its lane is busy until it is finished, returned or blocked.
    pub fn take_next(&mut self) -> Option<Queued> {
        while let Some(key) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.is_listed = false;
            if lane.is_busy || lane.is_blocked {
                continue;
            }
            if let Some(queued) = lane.queue.pop_front() {
                lane.is_busy = true;
                return Some(queued);
            }
        }
        None
    }

    /// Everything queued in lanes that are free, whole lanes, until `limit` is reached; in order of `seq`. All are busy then.
    pub fn next_batch(&mut self, limit: usize) -> Vec<Queued> {
        let mut batch = Vec::new();
        while batch.len() < limit {
            let Some(first) = self.take_next() else { break };
            let key = LaneKey::of(&first.notification);
            batch.push(first);
            if let Some(lane) = self.lanes.get_mut(&key) {
                // A replayed head is followed by rows that are not here yet: nothing behind it may overtake them.
                if !lane.refill_first {
                    batch.extend(lane.queue.drain(..));
                }
            }
        }
        batch.sort_by_key(|queued| queued.notification.seq);
        batch
    }

    /// The one in flight has its final outcome; the lane goes on.
    pub fn finished(&mut self, notification: &Notification) {
        self.drop_held(notification);
        self.release(&LaneKey::of(notification));
    }

    /// Nothing of this lane is in flight any more.
    pub fn release(&mut self, key: &LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.is_busy = false;
        }
        self.settle(key);
    }

    /// Whether the head of this lane failed and its row will come back.
    pub fn is_blocked(&self, key: &LaneKey) -> bool {
        self.lanes.get(key).is_some_and(|lane| lane.is_blocked)
    }

    /// Compares with what the database has per key: how many wait, and whether a row of the key moves it. People discard and
    /// replay behind our back. Keys with outcomes that are not recorded yet are left alone, and so are lanes at work.
    pub fn reconcile(&mut self, rows: &HashMap<String, (u64, bool)>, has_unrecorded: impl Fn(&str) -> bool) {
        let known = self.lanes.keys().filter_map(|key| match key {
            LaneKey::Key(key) => Some(key.clone()),
            LaneKey::Alone(_) => None,
        });
        let keys: HashSet<String> = known.chain(rows.keys().cloned()).collect();
        for key in keys.into_iter().filter(|key| !has_unrecorded(key)) {
            let (waiting, is_blocked) = rows.get(&key).copied().unwrap_or((0, false));
            let lane_key = LaneKey::Key(key);
            let lane = self.lanes.entry(lane_key.clone()).or_default();
            if !lane.is_busy && lane.queue.is_empty() {
                lane.parked = waiting;
                lane.is_blocked = is_blocked;
                lane.refill_first = false;
            }
            self.settle(&lane_key);
        }
    }

    /// Another of a batch has its final outcome; the lane stays busy.
    pub fn finished_within_batch(&mut self, notification: &Notification) {
        self.drop_held(notification);
    }

    /// The one in flight was not attempted in earnest: back to the head, and the lane to the end of the line, so that a probe
    /// does not try the same event for ever.
    pub fn returned(&mut self, queued: Queued) {
        let key = LaneKey::of(&queued.notification);
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.is_busy = false;
        lane.queue.push_front(queued);
        self.list(key);
    }

    /// The one in flight failed and its row will come back. Gives those of its followers that must be recorded as waiting.
    pub fn blocked(&mut self, notification: &Notification) -> Vec<Queued> {
        self.drop_held(notification);
        let key = LaneKey::of(notification);
        if matches!(key, LaneKey::Alone(_)) {
            self.lanes.remove(&key);
            return Vec::new();
        }
        let lane = self.lanes.entry(key).or_default();
        lane.is_busy = false;
        lane.is_blocked = true;
        lane.refill_first = false;
        let followers: Vec<Queued> = lane.queue.drain(..).collect();
        lane.parked += followers.len() as u64;
        self.held -= followers.len();
        self.held_bytes -= followers.iter().map(|queued| queued.notification.bytes()).sum::<usize>();
        followers.into_iter().filter(|queued| queued.origin.segment().is_some()).collect()
    }

    /// A follower of a blocked head, taken in the same batch and not attempted: recorded as waiting if it has no row yet.
    pub fn parked_within_batch(&mut self, queued: Queued) -> Option<Queued> {
        self.drop_held(&queued.notification);
        self.lanes.entry(LaneKey::of(&queued.notification)).or_default().parked += 1;
        queued.origin.segment().map(|_| queued)
    }

    fn drop_held(&mut self, notification: &Notification) {
        self.held -= 1;
        self.held_bytes -= notification.bytes();
    }

    /// Lists the lane, asks for its waiting rows, or forgets it.
    fn settle(&mut self, key: &LaneKey) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if lane.is_idle() {
            self.lanes.remove(key);
        } else if lane.parked > 0 && !lane.is_blocked && !lane.is_busy && (lane.queue.is_empty() || lane.refill_first) {
            if let LaneKey::Key(key) = key {
                self.refill.insert(key.clone());
            }
        } else {
            self.list(key.clone());
        }
    }

    fn list(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key)
            && !lane.is_listed
            && !lane.is_busy
            && !lane.is_blocked
            && !lane.queue.is_empty()
        {
            lane.is_listed = true;
            self.ready.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests;
