//! The books: the memory of one loop. Which events are read and in which lane each stands, which outcomes they had, and which of
//! these are not recorded yet. The books apply the decisions of `domain`, count and log. They never touch the database and never
//! wait.
//!
//! In the order of reading: `settle` (what a verdict changes), `judge` (suspects), `address` (destinations), `rest`, `ranges`. A
//! long file: entering and flushing the same fields.

mod address;
mod judge;
mod ranges;
mod rest;
mod settle;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;

use uuid::Uuid;

use super::attempt::Finished;
use super::reader::Segment;
use super::turn::{Answer, CircuitNews};
use super::{HandlerShared, Measure};
use crate::domain::{
    Circuit, DestinationPolicy, Destinations, LaneKey, LaneRef, Lanes, Notification, Origin, Position, Progress, Queued, Reason,
    SegmentId, Snapshot, Suspects,
};
use crate::store::{Done, Entries, Reached, RecordedDelivery, UnreadableDelivery};

/// Ranges of settled events beyond the position that are recorded without rows: some twenty bytes each, with every flush.
const MOST_RANGES: usize = 1_000;

/// How long what the owner before us had settled beyond the position must be written on.
enum CarriedUntil {
    /// Its windows are still being read.
    Unknown,
    /// The segment that is entered next is the last of them.
    NextSegment,
    /// Until the position has passed this one.
    Passed(SegmentId),
}

/// After this time what a loop has learned is in the database.
const SETTLED: Duration = Duration::from_secs(1);

pub struct Books {
    handler: Arc<HandlerShared>,
    partition: u16,
    pub lanes: Lanes,
    pub circuit: Circuit,
    /// Faults that are not judged yet. Their lanes stay busy.
    suspects: Suspects<Finished>,
    /// How often an attempt at an event ended because of another one.
    excused: HashMap<i64, u8>,
    /// The only event that an open circuit is judged by.
    only_witness: Option<Uuid>,
    destinations: Destinations,
    destination_changes: address::DestinationChanges,
    progress: Progress,
    /// Everything up to here is settled.
    position: Position,
    /// Settled beyond the position by the owner before us.
    carried_done: Option<String>,
    carried_until: CarriedUntil,
    /// The stored ranges of events that are settled without a row.
    stored_done: Option<String>,
    entries: Entries,
    /// The position has moved over events since the last flush.
    has_moved: bool,
    /// Recorded deliveries whose outcome is not written yet.
    unrecorded: HashSet<i64>,
    /// Per key, the waiting rows that are not written yet.
    unrecorded_waiting: HashMap<String, u64>,
    unrecorded_keys: HashSet<String>,
    /// Deliveries that are due and need not be read: they are in memory, or their lanes cannot take them now, and of which key.
    known_due: HashMap<i64, LaneKey>,
    /// A lane can take again what it could not: look for what is due.
    due_news: bool,
    /// Retrying and waiting rows, near enough.
    unfinished: u64,
    /// When the number above has last grown.
    grown_at: Option<Instant>,
    dead: u64,
    /// When the number above has last grown.
    died_at: Option<Instant>,
    /// Attempts at once, lowered by back-pressure and raised by success.
    limit: f64,
    pub held_until: Option<Instant>,
    circuit_news: bool,
    began: Instant,
    /// Clock of the database minus ours, in microseconds.
    clock_offset: i64,
}

impl Books {
    pub fn open(
        handler: Arc<HandlerShared>,
        partition: u16,
        position: Position,
        carried_done: Option<String>,
        room: usize,
    ) -> Self {
        let config = &handler.config;
        Self {
            lanes: Lanes::new(room),
            circuit: Circuit::new(config.circuit.clone()),
            suspects: Suspects::new(config.circuit.first_probe),
            excused: HashMap::new(),
            only_witness: None,
            destinations: Destinations::new(DestinationPolicy {
                retry: config.retry.clone(),
                on_bad: config.on_bad_destination,
                max_probe: config.circuit.max_probe,
            }),
            destination_changes: address::DestinationChanges::default(),
            progress: Progress::new(config.record),
            position,
            stored_done: carried_done.clone(),
            carried_done,
            carried_until: CarriedUntil::Unknown,
            entries: Entries::default(),
            has_moved: false,
            unrecorded: HashSet::new(),
            unrecorded_waiting: HashMap::new(),
            unrecorded_keys: HashSet::new(),
            known_due: HashMap::new(),
            due_news: false,
            unfinished: 0,
            grown_at: None,
            dead: 0,
            died_at: None,
            limit: config.concurrency as f64,
            held_until: None,
            circuit_news: false,
            began: Instant::now(),
            clock_offset: 0,
            partition,
            handler,
        }
    }

    /// Monotonic reading, as the circuit wants it.
    pub fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// Attempts that may be in flight now.
    pub fn concurrency(&self) -> usize {
        self.limit.max(1.0) as usize
    }

    /// Deliveries with a row that will be attempted again.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// Outcomes that wait for a flush.
    pub fn pending(&self) -> usize {
        self.entries.delivered.len() + self.entries.outcomes.len()
    }

    /// Whether a flush has something to write about events.
    pub fn needs_flush(&self) -> bool {
        self.has_moved || !self.entries.is_empty()
    }

    /// Everything visible in it has an outcome.
    pub fn reached(&self) -> &Snapshot {
        &self.position.snapshot
    }

    /// Events read that have no outcome yet.
    pub fn outstanding(&self) -> usize {
        self.progress.outstanding()
    }

    /// The segment that comes next is the last in which a previous owner can have settled anything. Read is not settled: until the position
    /// has passed it, a restart would read it again, and must know.
    pub fn recovered(&mut self) {
        self.carried_until = CarriedUntil::NextSegment;
    }

    /// Enters a segment that was read.
    pub fn take_segment(&mut self, segment: Segment) {
        if let Some(now) = segment.now {
            self.clock_offset = now.as_micros() - local_micros();
        }
        let count = segment.notifications.len() + segment.unreadable.len();
        self.handler.metrics.fetched(count as u64);
        let id = self.progress.push(segment.end, count);
        if matches!(self.carried_until, CarriedUntil::NextSegment) {
            self.carried_until = CarriedUntil::Passed(id);
        }
        self.has_moved |= count > 0;
        for notification in segment.notifications {
            if !notification.is_for(&self.handler.config.name) {
                self.progress.settle(id, notification.seq, false);
                continue;
            }
            let queued = Queued { notification, origin: Origin::Log(id), attempts: 0, age_micros: 0 };
            if let Some(parked) = self.lanes.offer(queued) {
                self.park(parked);
            }
        }
        for unreadable in segment.unreadable {
            self.bury_unreadable(unreadable, Origin::Log(id), 0);
        }
        self.advance();
    }

    /// Enters retries that are due.
    pub fn take_due(&mut self, rows: Vec<RecordedDelivery>) {
        for row in rows {
            if !self.unrecorded.contains(&row.notification.seq) {
                self.known_due.insert(row.notification.seq, LaneRef::of(&row.notification).owned());
                // A retry after a fault: it was the event's own, or nothing would have been spent on it.
                if row.attempts > 0 && row.has_fault {
                    self.suspects.was_proven(row.notification.seq);
                }
                let followed = row.followed;
                self.lanes.take_due(recorded(row), followed);
            }
        }
    }

    /// Due deliveries that need not be read again now.
    pub fn known_due(&self) -> Vec<i64> {
        self.known_due.keys().copied().collect()
    }

    /// Reads all that is due with the next look: an operator may have changed what the lanes do not know of.
    pub fn forget_due(&mut self) {
        self.known_due.clear();
    }

    /// Whether to look for what is due although nothing new can be.
    pub fn take_due_news(&mut self) -> bool {
        std::mem::take(&mut self.due_news)
    }

    /// Something has become of this delivery: what else is known of its key may be read again.
    pub(super) fn forget_due_of(&mut self, notification: &Notification) {
        if self.known_due.is_empty() {
            return;
        }
        let lane = LaneRef::of(notification).owned();
        self.known_due.remove(&notification.seq);
        let before = self.known_due.len();
        self.known_due.retain(|_, known| *known != lane);
        self.due_news |= self.known_due.len() < before;
    }

    /// Makes room for other keys where a few slow ones have all of it.
    pub fn relieve(&mut self) {
        for parked in self.lanes.relieve() {
            self.park(parked);
        }
    }

    /// Enters waiting deliveries that were asked for. `false`: of some key nothing came, and only the database knows why.
    pub fn take_waiting(&mut self, asked: Vec<String>, rows: Vec<RecordedDelivery>) -> bool {
        let mut all_had_rows = true;
        let mut by_key: HashMap<String, Vec<RecordedDelivery>> = HashMap::new();
        for row in rows {
            by_key.entry(row.notification.key.clone().unwrap_or_default()).or_default().push(row);
        }
        for key in asked {
            let unwritten = self.unrecorded_waiting.get(&key).copied().unwrap_or(0);
            let rows = by_key.remove(&key).unwrap_or_default();
            // No row of a key: the room was too small, a retry stands before them, or an operator was faster. One is taken to
            // wait, which holds later events back, until the lanes have been compared with the database.
            let left = rows.first().map_or(1, |row| row.waiting.saturating_sub(rows.len() as u64));
            all_had_rows &= !rows.is_empty();
            self.lanes.refill(&key, rows.into_iter().map(recorded).collect(), left + unwritten);
        }
        all_had_rows
    }

    /// Gives up recorded deliveries whose events cannot be read. Their lanes learn of it with the next look at the rows.
    pub fn take_unreadable(&mut self, deliveries: Vec<UnreadableDelivery>) {
        for UnreadableDelivery { unreadable, attempts } in deliveries {
            if !self.unrecorded.contains(&unreadable.notification.seq) {
                self.bury_unreadable(unreadable, Origin::Recorded, attempts);
            }
        }
    }

    /// Enters what else a turn has brought.
    pub fn take_answer(&mut self, answer: &mut Answer) {
        if let Some(rows) = answer.lanes.take() {
            let rows: HashMap<String, (u64, bool)> = rows.into_iter().map(|row| (row.key, (row.waiting, row.is_blocked))).collect();
            let unrecorded = &self.unrecorded_keys;
            self.lanes.reconcile(&rows, |key| unrecorded.contains(key));
        }
        if let Some(released) = answer.released.filter(|released| released.released > 0) {
            self.grow_unfinished(released.released);
        }
    }

    /// Deliveries that were recorded and unfinished when the loop began.
    pub fn begin_with(&mut self, unfinished: u64) {
        self.unfinished = unfinished;
    }

    /// Enters the counts of the observer: operators change rows while the loop runs.
    pub fn take_measure(&mut self, measure: Measure) {
        // Rows that were recorded while it counted may be missing in a lower count.
        let is_current = |grown: Option<Instant>| grown.is_none_or(|at| at + SETTLED < measure.began);
        if is_current(self.died_at) || measure.dead > self.dead {
            self.dead = measure.dead;
        }
        if is_current(self.grown_at) || measure.unfinished > self.unfinished {
            self.unfinished = measure.unfinished;
        }
    }

    /// So many more deliveries will be attempted again.
    fn grow_unfinished(&mut self, deliveries: u64) {
        self.unfinished += deliveries;
        self.grown_at = Some(Instant::now());
    }

    /// The outcomes to write now, and the position after them. Removes them from the books.
    pub fn take_flush(&mut self) -> (Reached, Entries) {
        self.advance();
        self.has_moved = false;
        self.unrecorded_waiting.clear();
        self.unrecorded_keys.clear();
        // Rows instead of ranges that would grow with every flush.
        self.entries.delivered.extend(self.progress.take_scattered(MOST_RANGES));
        let done = ranges::merge_ranges(self.carried_done.as_deref(), self.progress.done_ranges());
        let done = if done == self.stored_done {
            Done::AsStored
        } else {
            self.stored_done.clone_from(&done);
            Done::Now(done)
        };
        // In the order of the index they go into.
        self.entries.delivered.sort_unstable();
        (Reached { position: self.position.clone(), done }, std::mem::take(&mut self.entries))
    }

    /// The flush has been written; `written` are its outcomes.
    pub fn flushed(&mut self, written: &[i64]) {
        for seq in written {
            self.unrecorded.remove(seq);
        }
    }

    /// News of the circuit that are not recorded yet.
    pub fn take_circuit_news(&mut self) -> Option<CircuitNews> {
        std::mem::take(&mut self.circuit_news).then(|| CircuitNews {
            state: self.circuit.state().as_str(),
            reason: self.circuit.reason().map(Reason::as_str),
            wait: self.circuit.wait(self.clock()),
            only_witness: self.only_witness,
        })
    }

    /// Whether an attempt could begin now as far as the circuit is concerned: closed, or a probe is due.
    pub fn circuit_would_admit(&self) -> bool {
        self.circuit.is_closed() || (self.circuit.wait(self.clock()) == Some(Duration::ZERO) && !self.lanes.has_ready())
    }

    /// Takes up a circuit that was open when the last owner stopped.
    pub fn reopen_circuit(&mut self, wait: Duration) {
        let now = self.clock();
        self.circuit.reopen(None, wait, now);
        self.show_circuit();
    }

    /// Shows the circuit in the metrics. Every change goes through here: a figure that is set elsewhere is overwritten by the next one.
    pub fn show_circuit(&self) {
        let state = self.circuit.state();
        self.handler.show(self.partition, |figure| figure.circuit = Some(state));
    }

    /// An operator knows that the receiver works again.
    pub fn close_circuit(&mut self) {
        if !self.circuit.is_closed() {
            self.circuit.close();
            self.suspects.start_over();
            self.only_witness = None;
            self.circuit_news = true;
            self.show_circuit();
            info!(handler = self.handler.config.name, "circuit closed by a person, deliveries go on");
        }
    }

    fn advance(&mut self) {
        if let Some(position) = self.progress.advance() {
            self.position = position;
            if matches!(self.carried_until, CarriedUntil::Passed(id) if self.progress.has_passed(id)) {
                self.carried_done = None;
            }
        }
    }
}

fn recorded(row: RecordedDelivery) -> Queued {
    Queued { notification: row.notification, origin: Origin::Recorded, attempts: row.attempts, age_micros: row.age_micros }
}

fn local_micros() -> i64 {
    i64::try_from(super::unix_time().as_micros()).unwrap_or(i64::MAX)
}
