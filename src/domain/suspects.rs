//! Suspects: decides whether a fault belongs to one event or to the handler.
//!
//! A `HandlerFault` (401, 404, an unroutable key and so on) claims that every event would meet the same answer. That claim is a
//! hypothesis, and other events test it. Until it is judged, its event is a *suspect*: its lane stays busy, no attempt is spent,
//! and all other lanes go on. Faults that no event can change (no connection, TLS trust, egress rules) do not come here; they
//! open the circuit at once.
//!
//! The evidence, strongest first:
//!
//! - A *success* is an attempt after which the receiver took or judged the event. A success that began after the fault ended
//!   contradicts the fault. The event is at fault; it spends an attempt and follows the retry policy.
//! - `concurrency` + 16 faults without such a success confirm it. The handler is at fault, and the circuit opens. `concurrency`
//!   faults alone could all have been in flight together when a short outage began.
//! - If nothing more can be learned (no attempt is in flight, no other event is ready, and a second has passed), or if the
//!   suspects have waited for ten seconds, the weaker evidence decides: a success that overlapped a fault, or whose event was
//!   read in the same segment, contradicts it. If every suspect is contradicted, the events are at fault; otherwise the handler
//!   is.
//!
//! An event whose earlier fault was its own needs no proof for the next one. The same holds for a type after three of its events
//! were at fault and none was taken since. Both are forgotten when the handler itself is judged to be at fault.
//!
//! When the circuit has opened on fewer than 16 events, probes with other events go out without waiting until 16 keys were tried.
//! So a circuit that only one event speaks for is tested against other events as soon as there are any.
//!
//! Time that only the rate limit takes from other events does not count against the handler, for up to four suspects (`put_off`).
//! A fifth fault is judged as usual, so that an outage is reported after a few attempts.
//!
//! Ticks order the beginnings and ends of attempts. Ticks and time are arguments.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{LaneKey, LaneRef, Notification, SegmentId};

/// Faults beyond those that were in flight together, after which no further evidence is needed.
const ENOUGH: usize = 16;
/// How long other events may take to come, before a suspect is judged without them.
const GRACE: Duration = Duration::from_secs(1);
/// How many graces later it is judged although others are under way: they may never end.
const LONGEST: u32 = 10;
/// Faults that are held, above which waiting for the rate no longer delays a judgement: in an outage it must come within a few attempts.
const MOST_WAITED_FOR: usize = 4;
/// Events and keys remembered. Beyond that, one is forgotten too many, and asked once more.
const MOST_REMEMBERED: usize = 4_096;

/// Events of one type at fault, and none of it taken, after which the type is known for it.
const PROVES_TYPE: usize = 3;

/// A moment of a circuit: rises with every beginning and every end of an attempt.
pub type Tick = u64;

/// An event whose fault is not judged yet. `T` is whatever must be kept to judge it.
#[derive(Debug)]
struct Suspect<T> {
    case: T,
    began: Tick,
    ended: Tick,
    segment: Option<SegmentId>,
    /// An earlier fault was its own: this one says nothing about the handler.
    is_proven: bool,
}

/// When an attempt was made, and with what its event was read.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub began: Tick,
    pub ended: Tick,
    /// `None`: the event came from its row.
    pub segment: Option<SegmentId>,
}

/// The judgement of some suspects.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement<T> {
    Undecided,
    /// Others succeeded beside them.
    EventsAtFault(Vec<T>),
    /// Nothing contradicts them.
    HandlerAtFault(Vec<T>),
}

/// The suspects of one handler, and what is remembered of earlier ones.
#[derive(Debug)]
pub struct Suspects<T> {
    grace: Duration,
    held: Vec<Suspect<T>>,
    since: Duration,
    /// The last attempt that succeeded.
    success: Option<Span>,
    /// Keys that have failed since the last success: another failure of them proves nothing new.
    tried: HashSet<LaneKey>,
    tried_types: HashSet<String>,
    /// Events that the open circuit is judged by.
    accused: HashSet<i64>,
    /// Events that were at fault: another one of their faults needs no proof.
    proven: HashSet<i64>,
    /// How many events of a type were at fault since one of it was taken.
    proven_types: HashMap<String, usize>,
    /// Probes that may go out before their time, to events that were not tried.
    asks_left: usize,
}

impl<T> Suspects<T> {
    /// `first_probe`: how long the circuit waits; a judgement takes no longer.
    pub fn new(first_probe: Duration) -> Self {
        Self {
            grace: GRACE.min(first_probe),
            held: Vec::new(),
            since: Duration::ZERO,
            success: None,
            tried: HashSet::new(),
            tried_types: HashSet::new(),
            accused: HashSet::new(),
            proven: HashSet::new(),
            proven_types: HashMap::new(),
            asks_left: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.held.iter().map(|suspect| &suspect.case)
    }

    /// Whether a fault of this event needs no proof: an earlier one was its own, or its type is known for it, and nothing speaks against
    /// the handler now.
    pub fn is_proven(&self, notification: &Notification) -> bool {
        self.held.is_empty() && self.is_guilty(notification)
    }

    fn is_guilty(&self, notification: &Notification) -> bool {
        let type_is_known = || self.proven_types.get(&notification.event_type).is_some_and(|count| *count >= PROVES_TYPE);
        self.proven.contains(&notification.seq) || type_is_known()
    }

    /// A fault of this event was its own.
    pub fn prove(&mut self, notification: &Notification) {
        if remember(&mut self.proven, notification.seq) && self.proven_types.len() < MOST_REMEMBERED {
            *self.proven_types.entry(notification.event_type.clone()).or_default() += 1;
        }
    }

    /// The row of this event says that an earlier fault was its own.
    pub fn was_proven(&mut self, seq: i64) {
        remember(&mut self.proven, seq);
    }

    /// This event was taken.
    pub fn taken(&mut self, notification: &Notification) {
        if !self.proven.is_empty() || !self.proven_types.is_empty() {
            self.proven.remove(&notification.seq);
            self.proven_types.remove(&notification.event_type);
        }
    }

    /// An event met a fault.
    pub fn accuse(&mut self, case: T, notification: &Notification, span: Span, now: Duration) {
        if self.held.is_empty() {
            self.since = now;
        }
        self.try_on(notification);
        let is_proven = self.is_guilty(notification);
        self.held.push(Suspect { case, began: span.began, ended: span.ended, segment: span.segment, is_proven });
    }

    /// An attempt succeeded. Gives the suspects that this contradicts: their faults came before it began.
    pub fn succeeded(&mut self, span: Span) -> Vec<T> {
        self.success = Some(span);
        if self.held.is_empty() {
            return Vec::new();
        }
        let (contradicted, held) = std::mem::take(&mut self.held).into_iter().partition(|suspect| suspect.ended < span.began);
        self.held = held;
        if self.held.is_empty() {
            self.start_over();
        }
        let contradicted: Vec<Suspect<T>> = contradicted;
        contradicted.into_iter().map(|suspect| suspect.case).collect()
    }

    /// Judges those that are held. `concurrency`: attempts that can be in flight at once; `may_learn`: attempts are under way or can begin.
    pub fn judge(&mut self, concurrency: usize, may_learn: bool, now: Duration) -> Judgement<T> {
        let waited = now.saturating_sub(self.since);
        let is_enough = self.held.len() >= concurrency + ENOUGH;
        let is_time = (waited >= self.grace && !may_learn) || waited >= self.grace * LONGEST;
        if self.held.is_empty() || !(is_enough || is_time) {
            return Judgement::Undecided;
        }
        // At about the same time: in flight together with each of them, or read together.
        let is_beside = |suspect: &Suspect<T>| {
            suspect.is_proven
                || self.success.is_some_and(|success| {
                    success.ended > suspect.began || (suspect.segment.is_some() && success.segment == suspect.segment)
                })
        };
        let all_contradicted = !is_enough && self.held.iter().all(is_beside);
        let cases = std::mem::take(&mut self.held).into_iter().map(|suspect| suspect.case).collect();
        if all_contradicted {
            self.start_over();
            return Judgement::EventsAtFault(cases);
        }
        self.asks_left = ENOUGH.saturating_sub(self.tried.len());
        self.proven.clear();
        self.proven_types.clear();
        Judgement::HandlerAtFault(cases)
    }

    /// Only the rate of the handler holds back events that could contradict the suspects: as long as these are few, time does not speak
    /// against the handler.
    pub fn put_off(&mut self, now: Duration) {
        if self.held.len() <= MOST_WAITED_FOR {
            self.since = now;
        }
    }

    /// Gives all that are held back unjudged: the circuit has opened for another reason.
    pub fn take_back(&mut self) -> Vec<T> {
        std::mem::take(&mut self.held).into_iter().map(|suspect| suspect.case).collect()
    }

    /// The circuit opened over this event, or a probe with it failed.
    pub fn convict(&mut self, notification: &Notification) {
        self.try_on(notification);
        remember(&mut self.accused, notification.seq);
    }

    /// The only event that speaks against the handler.
    pub fn is_only_witness(&self, seq: i64) -> bool {
        self.accused.len() == 1 && self.accused.contains(&seq)
    }

    /// The circuit opened over destinations: other events may show that the handler works.
    pub fn ask_others(&mut self) {
        self.asks_left = ENOUGH;
    }

    /// Whether a probe need not wait for its time, given an event that was not tried.
    pub fn may_ask_at_once(&self) -> bool {
        self.asks_left > 0
    }

    /// A probe went out before its time.
    pub fn asked_at_once(&mut self) {
        self.asks_left = self.asks_left.saturating_sub(1);
    }

    /// A probe succeeded: those that the circuit was judged by are at fault if they fail again.
    pub fn acquitted_handler(&mut self) {
        for seq in std::mem::take(&mut self.accused) {
            remember(&mut self.proven, seq); // of its type nothing is proven
        }
        self.start_over();
    }

    /// An operator closed the circuit, or an answer did that proves nothing about an event.
    pub fn start_over(&mut self) {
        self.tried.clear();
        self.tried_types.clear();
        self.accused.clear();
        self.asks_left = 0;
    }

    /// How much can be learned from an event: 0 is most. Another type rather than the same, another key in any case.
    pub fn rank(&self, notification: &Notification) -> u8 {
        match (self.is_fresh(notification), self.tried_types.contains(&notification.event_type)) {
            (true, false) => 0,
            (true, true) => 1,
            (false, _) => 2,
        }
    }

    /// Its key has not failed yet.
    pub fn is_fresh(&self, notification: &Notification) -> bool {
        !self.proven.contains(&notification.seq) && !self.tried.contains(&LaneRef::of(notification).owned())
    }

    /// When to judge if nothing else happens.
    pub fn judge_at(&self, now: Duration) -> Option<Duration> {
        let moments = [self.since + self.grace, self.since + self.grace * LONGEST];
        moments.into_iter().find(|moment| !self.held.is_empty() && *moment > now)
    }

    fn try_on(&mut self, notification: &Notification) {
        if self.tried.len() < MOST_REMEMBERED {
            self.tried.insert(LaneRef::of(notification).owned());
            self.tried_types.insert(notification.event_type.clone());
        }
    }
}

/// Whether it is new.
fn remember(seqs: &mut HashSet<i64>, seq: i64) -> bool {
    if seqs.len() >= MOST_REMEMBERED {
        seqs.clear();
    }
    seqs.insert(seq)
}

#[cfg(test)]
mod tests;
