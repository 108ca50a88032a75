//! Lanes: one lane per ordering key. One notification of a lane is in flight, and the others wait behind it in order.
//!
//! When the head of a lane fails, the ledger records it as `retrying` and the lane is *blocked*. The notifications queued behind
//! it are *parked*: they are recorded as `waiting` and leave memory, and no attempt is spent on them. A dead receiver of one key
//! therefore costs rows and not memory. When the head comes due, it is read back. When the head is done, the lane requests its
//! waiting rows, some at a time and in order (*refill*). Events that come from the log meanwhile are parked behind them.
//!
//! - Room: reading stops when half of the room is held, in events or in bytes. One lane queues at most a quarter. Above that,
//!   events of a healthy hot key *spill*: they are recorded as `waiting` and refilled later. Without this bound, one slow key
//!   would fill memory and stop all other keys.
//! - Relief: several slow keys can fill the room together. When the room is full, attempts could begin and no lane is ready,
//!   `relieve` parks the ends of the longest lanes until a quarter of the room is held.
//! - Reconciliation: operators replay and discard deliveries while the loop runs. `reconcile` compares the lanes with the rows,
//!   every five seconds and at once after a command. It skips keys that have unwritten outcomes and lanes that hold
//!   notifications.
//! - A notification without a key has a lane of its own. When it fails, its row alone is retried.
//!
//! Lanes decide only about order and memory; `policy` decides what follows a verdict. A long file: every operation on a lane
//! keeps the same counters in step.

mod lane;
mod shelf;

use std::collections::{HashMap, HashSet, VecDeque};

use self::lane::Lane;
pub use self::lane::{LaneKey, LaneRef};
use self::shelf::Shelf;
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

/// All lanes of one subscription.
#[derive(Debug)]
pub struct Lanes {
    lanes: Shelf,
    ready: VecDeque<LaneKey>,
    refill: HashSet<String>,
    /// Notifications held, queued and in flight.
    held: usize,
    held_bytes: usize,
    room: usize,
    room_bytes: usize,
}

/// The part of the room that one lane may have queued, and down to which the longest are parked. Half of the room is where reading
/// stops, so it must be less.
const LANE_SHARE: usize = 4;

impl Lanes {
    /// Lanes that hold about `room` notifications.
    pub fn new(room: usize) -> Self {
        Self {
            lanes: Shelf::default(),
            ready: VecDeque::new(),
            refill: HashSet::new(),
            held: 0,
            held_bytes: 0,
            room,
            room_bytes: usize::MAX,
        }
    }

    /// Bytes that are held at most, about. They change when other handlers come and go.
    pub fn set_room_bytes(&mut self, bytes: usize) {
        self.room_bytes = bytes;
    }

    /// Whether so much is held that nothing more should be read.
    pub fn is_full(&self) -> bool {
        self.held * 2 > self.room || self.held_bytes > self.room_bytes / 2
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
        self.lanes.keyed.values().filter(|lane| lane.is_blocked).count()
    }

    /// Takes up what the database knows of a key: how many wait, and whether a row of its own will move it.
    pub fn restore(&mut self, key: String, parked: u64, is_blocked: bool) {
        let lane = self.lanes.get_or_open(LaneRef::Key(&key));
        lane.parked = parked;
        lane.is_blocked = is_blocked;
        if parked > 0 && !is_blocked {
            self.refill.insert(key);
        }
    }

    /// Queues a notification from the log. Gives it back if it must be parked: recorded as waiting.
    pub fn offer(&mut self, queued: Queued) -> Option<Queued> {
        let lane = self.lanes.get_or_open(LaneRef::of(&queued.notification));
        let is_long = lane.queue.len() * LANE_SHARE > self.room || lane.bytes > self.room_bytes / LANE_SHARE;
        if lane.is_blocked || lane.parked > 0 || is_long {
            lane.parked += 1;
            return Some(queued);
        }
        lane.list(LaneRef::of(&queued.notification), &mut self.ready);
        self.held += 1;
        self.held_bytes += queued.notification.bytes();
        lane.push_back(queued);
        None
    }

    /// Whether a recorded row that is due may be queued: its lane is not busy with anything, and nothing in it has a row, which
    /// may be the very same. One that was counted and then returned has one, too, and it is due.
    pub fn wants_due(&self, key: LaneRef<'_>) -> bool {
        let has_row = |queued: &Queued| !matches!(queued.origin, Origin::Log(_));
        self.lanes.get(key).is_none_or(|lane| !lane.is_busy && !lane.queue.iter().any(has_row))
    }

    /// Queues the recorded head of a key whose time has come; `followed`: rows wait behind it.
    pub fn take_due(&mut self, queued: Queued, followed: bool) {
        let key = LaneRef::of(&queued.notification);
        if !self.wants_due(key) {
            return;
        }
        let lane = self.lanes.get_or_open(key);
        lane.is_blocked = false;
        if followed {
            lane.parked = lane.parked.max(1);
            lane.refill_first = true;
        }
        lane.list(key, &mut self.ready);
        self.held += 1;
        self.held_bytes += queued.notification.bytes();
        lane.push_front(queued);
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
        let key = LaneRef::Key(key);
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.refill_first = false;
        lane.parked = left;
        // A row that went back to blocked while its followers were read keeps them parked.
        if lane.is_blocked {
            lane.parked += rows.len() as u64;
            return;
        }
        let bytes = rows.iter().map(|queued| queued.notification.bytes()).sum::<usize>();
        self.held += rows.len();
        self.held_bytes += bytes;
        lane.bytes += bytes;
        lane.queue.extend(rows);
        lane.queue.make_contiguous().sort_by_key(|queued| queued.notification.seq);
        self.settle(key, |_| ());
    }

    /// The next notification to attempt; its lane is busy until it is finished, returned or blocked.
    pub fn take_next(&mut self) -> Option<Queued> {
        while let Some(key) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(key.borrowed()) else { continue };
            lane.is_listed = false;
            if lane.is_busy || lane.is_blocked {
                continue;
            }
            if let Some(queued) = lane.pop_front() {
                lane.is_busy = true;
                return Some(queued);
            }
        }
        None
    }

    /// The same, for the one of those that are ready with the lowest rank; of equals, the one that has been ready for longest.
    pub fn take_best(&mut self, rank: impl Fn(&Notification) -> u8) -> Option<Queued> {
        let mut best: Option<(u8, usize)> = None;
        for (place, key) in self.ready.iter().enumerate() {
            let Some(head) = self.head(key) else { continue };
            let rank = rank(head);
            if best.is_none_or(|(lowest, _)| rank < lowest) {
                best = Some((rank, place));
            }
            if rank == 0 {
                break;
            }
        }
        let (_, place) = best?;
        let key = self.ready.remove(place)?;
        self.ready.push_front(key);
        self.take_next()
    }

    /// Whether the next of some free lane is such a one.
    pub fn has_ready_where(&self, wanted: impl Fn(&Notification) -> bool) -> bool {
        self.ready.iter().any(|key| self.head(key).is_some_and(&wanted))
    }

    /// The next notification of a lane that is free.
    fn head(&self, key: &LaneKey) -> Option<&Notification> {
        let lane = self.lanes.get(key.borrowed()).filter(|lane| !lane.is_busy && !lane.is_blocked)?;
        lane.queue.front().map(|queued| &*queued.notification)
    }

    /// Notifications of free lanes, whole lanes as far as they fit into `limit`; in order of `seq`. All these lanes are busy then.
    pub fn next_batch(&mut self, limit: usize) -> Vec<Queued> {
        let mut batch = Vec::new();
        while batch.len() < limit {
            let Some(first) = self.take_next() else { break };
            let lane = self.lanes.get_mut(LaneRef::of(&first.notification));
            batch.push(first);
            // A replayed head is followed by rows that are not here yet: nothing behind it may overtake them.
            if let Some(lane) = lane.filter(|lane| !lane.refill_first) {
                let fitting = lane.queue.len().min(limit - batch.len());
                batch.extend((0..fitting).filter_map(|_| lane.pop_front()));
            }
        }
        batch.sort_by_key(|queued| queued.notification.seq);
        batch
    }

    /// Puts those of these lanes that are ready before all others, in this order.
    pub fn hurry(&mut self, keys: &[LaneKey]) {
        let mut places = HashMap::new();
        for key in keys {
            let next = places.len();
            places.entry(key).or_insert(next);
        }
        let (mut first, rest): (Vec<_>, Vec<_>) = self.ready.drain(..).partition(|key| places.contains_key(key));
        first.sort_by_key(|key| places.get(key).copied());
        self.ready.extend(first);
        self.ready.extend(rest);
    }

    /// One that was in flight, by itself or in a batch, has its final outcome; the lane goes on.
    pub fn finished(&mut self, notification: &Notification) {
        self.drop_held(notification);
        self.release(LaneRef::of(notification));
    }

    /// Nothing of this lane is in flight any more.
    pub fn release(&mut self, key: LaneRef<'_>) {
        self.settle(key, |lane| lane.is_busy = false);
    }

    /// Whether the head of this lane failed and its row will come back.
    pub fn is_blocked(&self, key: LaneRef<'_>) -> bool {
        self.lanes.get(key).is_some_and(|lane| lane.is_blocked)
    }

    /// Compares with what the database has per key: how many wait, and whether a row of the key moves it. Operators discard and
    /// replay while the loop runs. Keys with outcomes that are not recorded yet are left alone, and so are lanes at work.
    pub fn reconcile(&mut self, rows: &HashMap<String, (u64, bool)>, has_unrecorded: impl Fn(&str) -> bool) {
        let keys: HashSet<String> = self.lanes.keyed.keys().chain(rows.keys()).cloned().collect();
        for key in keys.into_iter().filter(|key| !has_unrecorded(key)) {
            let (waiting, is_blocked) = rows.get(&key).copied().unwrap_or((0, false));
            let key = LaneRef::Key(&key);
            self.lanes.get_or_open(key);
            self.settle(key, |lane| {
                if !lane.is_busy && lane.queue.is_empty() {
                    lane.parked = waiting;
                    lane.is_blocked = is_blocked;
                    lane.refill_first = false;
                }
            });
        }
    }

    /// The one in flight was not attempted in earnest: back to the head, and the lane to the end of the line, so that a probe
    /// does not try the same event for ever.
    pub fn returned(&mut self, queued: Queued) {
        let key = LaneRef::of(&queued.notification);
        let lane = self.lanes.get_or_open(key);
        lane.is_busy = false;
        lane.list(key, &mut self.ready);
        lane.push_front(queued);
    }

    /// Parks the ends of the longest lanes that wait for the one in flight, until a quarter of the room is held or nothing is left of
    /// them. For a moment in which attempts could begin and nothing can be read for them. Gives those that must be recorded as waiting.
    pub fn relieve(&mut self) -> Vec<Queued> {
        let share = |lane: &Lane| (lane.queue.len() as f64 / self.room as f64).max(lane.bytes as f64 / self.room_bytes as f64);
        let waiting = self.lanes.keyed.iter().filter(|(_, lane)| lane.is_busy && !lane.queue.is_empty());
        let mut longest: Vec<(f64, String)> = waiting.map(|(key, lane)| (share(lane), key.clone())).collect();
        longest.sort_unstable_by(|(one, _), (other, _)| other.total_cmp(one));
        let mut parked = Vec::new();
        for (_, key) in longest {
            let Some(lane) = self.lanes.keyed.get_mut(&key) else { continue };
            while self.held * LANE_SHARE > self.room || self.held_bytes > self.room_bytes / LANE_SHARE {
                let Some(last) = lane.pop_back() else { break };
                self.held -= 1;
                self.held_bytes -= last.notification.bytes();
                lane.parked += 1;
                parked.push(last);
            }
        }
        parked.into_iter().filter(|queued| queued.origin.segment().is_some()).collect()
    }

    /// One that was taken in a batch behind a suspect, and not attempted: back to the head of its lane, which stays busy.
    pub fn put_back(&mut self, queued: Queued) {
        let lane = self.lanes.get_or_open(LaneRef::of(&queued.notification));
        lane.push_front(queued);
    }

    /// The one in flight failed and its row will come back. Gives those of its followers that must be recorded as waiting.
    pub fn blocked(&mut self, notification: &Notification) -> Vec<Queued> {
        self.drop_held(notification);
        let key = LaneRef::of(notification);
        if matches!(key, LaneRef::Alone(_)) {
            self.lanes.close(key);
            return Vec::new();
        }
        let lane = self.lanes.get_or_open(key);
        lane.is_busy = false;
        lane.is_blocked = true;
        lane.refill_first = false;
        let followers: Vec<Queued> = lane.queue.drain(..).collect();
        lane.bytes = 0;
        lane.parked += followers.len() as u64;
        self.held -= followers.len();
        self.held_bytes -= followers.iter().map(|queued| queued.notification.bytes()).sum::<usize>();
        followers.into_iter().filter(|queued| queued.origin.segment().is_some()).collect()
    }

    /// A follower of a blocked head, taken in the same batch and not attempted: recorded as waiting if it has no row yet.
    pub fn parked_within_batch(&mut self, queued: Queued) -> Option<Queued> {
        self.drop_held(&queued.notification);
        self.lanes.get_or_open(LaneRef::of(&queued.notification)).parked += 1;
        queued.origin.segment().map(|_| queued)
    }

    fn drop_held(&mut self, notification: &Notification) {
        self.held -= 1;
        self.held_bytes -= notification.bytes();
    }

    /// Changes the lane, and then lists it, asks for its waiting rows, or forgets it.
    fn settle(&mut self, key: LaneRef<'_>, change: impl FnOnce(&mut Lane)) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        change(lane);
        if lane.is_idle() {
            self.lanes.close(key);
        } else if lane.wants_refill() {
            if let LaneRef::Key(key) = key {
                self.refill.insert(key.to_owned());
            }
        } else if !lane.queue.is_empty() {
            lane.list(key, &mut self.ready);
        }
    }
}

#[cfg(test)]
mod tests;
