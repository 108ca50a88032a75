//! One subscription and the loops of two instances over it, step by step as in `relay::subscription`, `relay::reader`, `relay::books`
//! and `relay::turn`. Position, progress and policy are the domain's own; each is made anew from the state whenever it is asked.
//! Simpler than the real one: what stands behind a failed event stays in memory, where the relay parks it in a row.

use std::time::Duration;

use outboxd::domain::{Backoff, Next, Position, Progress, Reason, Record, RetryPolicy, Verdict, decide};

use super::log::{Log, Place, Set, holds};
use super::rules::Rule;

mod reading;

/// A row of `deliveries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Row {
    Delivered,
    Retrying(u8),
    Dead,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscription {
    pub owner: Option<usize>,
    pub is_expired: bool,
    pub place: Place,
    pub done: Set,
    /// By `seq`.
    pub rows: Vec<Option<Row>>,
}

impl Subscription {
    pub fn row(&self, seq: u8) -> Option<Row> {
        self.rows.get(usize::from(seq)).copied().flatten()
    }

    fn write(&mut self, seq: u8, row: Row) {
        let place = usize::from(seq);
        if self.rows.len() <= place {
            self.rows.resize(place + 1, None);
        }
        self.rows[place] = Some(row);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Queued,
    Flying,
    Settled { has_row: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    pub end: Place,
    pub events: Vec<(u8, Stage)>,
    /// What the last owner had settled need not be told any more once the position has passed this one.
    ends_carrying: bool,
}

/// Where a loop stands with what its predecessor can have settled beyond the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Recovery {
    No,
    Yes { covers_all: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flush {
    pub place: Place,
    pub done: Set,
    pub rows: Vec<(u8, Row)>,
    /// Not written anywhere, for the checks: what this flush says is delivered.
    pub delivered: Set,
}

/// What a retry has come to that was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retry {
    pub seq: u8,
    pub attempts: u8,
    pub is_flying: bool,
}

/// The memory of one loop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Loop {
    /// The epoch of the subscription is still the one that it began with; all that a fence can tell.
    pub is_current: bool,
    pub is_trusted: bool,
    pub head: Place,
    pub segments: Vec<Segment>,
    pub retries: Vec<Retry>,
    /// Keys whose head failed.
    blocked: Set,
    place: Place,
    recovery: Recovery,
    recorded_done: Set,
    expects_large: bool,
    /// The sequence was read, the window is not open yet.
    opening: Option<u8>,
    carried: Set,
    carries_until_next: bool,
    entries: Vec<(u8, Row)>,
    has_moved: bool,
    /// For the checks: what was delivered since the last flush.
    delivered: Set,
    pub turn: Option<Flush>,
}

/// What the relay is configured to do.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub rule: Rule,
    pub record: Record,
    /// Rows of one read.
    pub room: usize,
    /// Transactions that the server can run at once.
    pub most_running: usize,
    pub max_attempts: u32,
}

impl Loop {
    pub fn take_up(stored: &Subscription, log: &Log) -> Self {
        let retrying = log.committed().filter(|(seq, _)| matches!(stored.row(*seq), Some(Row::Retrying(_))));
        Self {
            head: stored.place.stored(),
            place: stored.place.stored(),
            blocked: retrying.fold(0, |set, (_, event)| set | 1 << event.key),
            recorded_done: stored.done,
            carried: stored.done,
            ..Self::empty()
        }
    }

    fn empty() -> Self {
        Self {
            is_current: true,
            is_trusted: true,
            head: Place::beginning(),
            place: Place::beginning(),
            segments: Vec::new(),
            retries: Vec::new(),
            blocked: 0,
            recovery: Recovery::Yes { covers_all: false },
            recorded_done: 0,
            expects_large: true,
            opening: None,
            carried: 0,
            carries_until_next: false,
            entries: Vec::new(),
            has_moved: false,
            delivered: 0,
            turn: None,
        }
    }

    /// Another owner has begun: what is in flight may still arrive, and a flush may still be under way. Nothing else in this memory can have
    /// an effect any more, and is left out of the search. With a broken fence or broken trust it stays in.
    pub fn outdate(&mut self, rule: Rule) {
        self.is_current = false;
        if matches!(rule, Rule::NoFence | Rule::NoTrust) {
            return;
        }
        let (nowhere, turn) = (Place::beginning(), self.turn.take());
        let mut segments = std::mem::take(&mut self.segments);
        for segment in &mut segments {
            segment.events.retain(|(_, stage)| *stage == Stage::Flying);
            (segment.end, segment.ends_carrying) = (nowhere, false);
        }
        segments.retain(|segment| !segment.events.is_empty());
        let retries = self.retries.iter().copied().filter(|retry| retry.is_flying).collect();
        let turn = turn.map(|_| Flush { place: nowhere, done: 0, rows: Vec::new(), delivered: 0 });
        *self = Self { segments, retries, turn, is_current: false, is_trusted: false, ..Self::empty() };
    }

    /// The domain's progress with all segments in it.
    fn progress(&self, record: Record) -> Progress {
        let mut progress = Progress::new(record);
        for segment in &self.segments {
            let id = progress.push(segment.end.real(), segment.events.len());
            for (seq, stage) in &segment.events {
                if let Stage::Settled { has_row } = stage {
                    progress.settle(id, (*seq).into(), *has_row);
                }
            }
        }
        progress
    }

    fn advance(&mut self) {
        let mut progress = self.progress(Record::All);
        let before: usize = self.segments.len();
        let Some(place) = progress.advance() else { return };
        self.place = Place::of(&place);
        let settled = |segment: &Segment| segment.events.iter().all(|(_, stage)| matches!(stage, Stage::Settled { .. }));
        let passed = self.segments.iter().take_while(|segment| settled(segment)).count();
        assert!(passed > 0 && passed <= before && progress.is_empty() == (passed == before), "the progress passes what is settled");
        for segment in self.segments.drain(..passed) {
            if segment.ends_carrying {
                self.carried = 0;
            }
        }
    }

    pub fn needs_flush(&self) -> bool {
        self.has_moved || !self.entries.is_empty()
    }

    pub fn is_drained(&self) -> bool {
        let flies = |events: &[(u8, Stage)]| events.iter().any(|(_, stage)| *stage == Stage::Flying);
        self.turn.is_none()
            && !self.needs_flush()
            && !self.segments.iter().any(|segment| flies(&segment.events))
            && !self.retries.iter().any(|retry| retry.is_flying)
    }

    /// A turn is worth it: something to write, or a retry that is not in memory.
    pub fn wants_turn(&self, stored: &Subscription, log: &Log) -> bool {
        let is_due = |seq: u8| matches!(stored.row(seq), Some(Row::Retrying(_))) && !self.knows(seq);
        // The relay stores a position without events now and then; here it is enough to do so at the end, as with events in between.
        let has_moved = log.is_over() && self.place.stored() != stored.place.stored();
        self.turn.is_none() && (self.needs_flush() || has_moved || log.committed().any(|(seq, _)| is_due(seq)))
    }

    fn knows(&self, seq: u8) -> bool {
        self.retries.iter().any(|retry| retry.seq == seq) || self.entries.iter().any(|(entry, _)| *entry == seq)
    }

    pub fn begin_turn(&mut self, settings: &Settings) {
        self.advance();
        self.has_moved = false;
        let own = self.progress(settings.record).done_ranges().map_or(0, |text| numbers(&text));
        let mut done = self.carried | own;
        match settings.rule {
            Rule::NoDone => done = 0,
            Rule::DoneOverGaps => done = without_gaps(done),
            _ => {}
        }
        let place = if settings.rule == Rule::PositionFirst { self.head } else { self.place };
        self.turn =
            Some(Flush { place, done, rows: std::mem::take(&mut self.entries), delivered: std::mem::take(&mut self.delivered) });
    }

    /// The events that may begin now: the heads of free lanes.
    pub fn startable(&self, log: &Log, settings: &Settings) -> Vec<u8> {
        let mut busy: Set = 0;
        for (seq, stage) in self.segments.iter().flat_map(|segment| &segment.events) {
            if *stage == Stage::Flying {
                busy |= 1 << log.event(*seq).key;
            }
        }
        for retry in self.retries.iter().filter(|retry| retry.is_flying) {
            busy |= 1 << log.event(retry.seq).key;
        }
        let mut found: Vec<u8> = Vec::new();
        for retry in self.retries.iter().filter(|retry| !retry.is_flying) {
            if !holds(busy, log.event(retry.seq).key) {
                found.push(retry.seq);
                busy |= 1 << log.event(retry.seq).key;
            }
        }
        if settings.rule != Rule::NoBlocking {
            busy |= self.blocked;
        }
        for (seq, stage) in self.segments.iter().flat_map(|segment| &segment.events) {
            let key = log.event(*seq).key;
            if *stage == Stage::Queued && !holds(busy, key) {
                found.push(*seq);
                busy |= 1 << key;
            }
        }
        found
    }

    pub fn flying(&self) -> Vec<u8> {
        let log = self.segments.iter().flat_map(|segment| &segment.events);
        let log = log.filter(|(_, stage)| *stage == Stage::Flying).map(|(seq, _)| *seq);
        log.chain(self.retries.iter().filter(|retry| retry.is_flying).map(|retry| retry.seq)).collect()
    }

    fn stage(&mut self, seq: u8) -> Option<&mut Stage> {
        let unsettled = |stage: &Stage| !matches!(stage, Stage::Settled { .. });
        let mut all = self.segments.iter_mut().flat_map(|segment| &mut segment.events);
        all.find(|(other, stage)| *other == seq && unsettled(stage)).map(|(_, stage)| stage)
    }

    pub fn begin_attempt(&mut self, seq: u8) {
        match self.retries.iter_mut().find(|retry| retry.seq == seq) {
            Some(retry) => retry.is_flying = true,
            None => *self.stage(seq).expect("startable") = Stage::Flying,
        }
    }

    /// An attempt ends; what follows is the policy's decision.
    pub fn end_attempt(&mut self, seq: u8, verdict: &Verdict, log: &Log, settings: &Settings) {
        let retry = self.retries.iter().position(|retry| retry.seq == seq).map(|place| self.retries.remove(place));
        let attempt = retry.map_or(0, |retry| retry.attempts) + 1;
        let key: Set = 1 << log.event(seq).key;
        let next = decide(&policy(settings.max_attempts), verdict, attempt.into(), Duration::ZERO, 0.5);
        let row = match next {
            Next::Done if retry.is_none() && settings.record == Record::Failures => None,
            Next::Done => Some(Row::Delivered),
            Next::RetryIn(_) => Some(Row::Retrying(attempt)),
            Next::Bury(_) => Some(Row::Dead),
            Next::SlowDown(_) | Next::OpenCircuit => unreachable!("no such verdict here"),
        };
        if next == Next::Done {
            self.delivered |= 1 << seq;
        }
        match row {
            Some(Row::Retrying(_)) => self.blocked |= key,
            _ => self.blocked &= !key,
        }
        self.entries.extend(row.map(|row| (seq, row)));
        self.has_moved = true;
        if retry.is_none() {
            *self.stage(seq).expect("it was flying") = Stage::Settled { has_row: row.is_some() };
        }
    }

    /// Knows of a dead letter that is not written yet.
    pub fn has_given_up(&self, seq: u8) -> bool {
        let writing = self.turn.iter().flat_map(|flush| &flush.rows);
        self.entries.iter().chain(writing).any(|entry| *entry == (seq, Row::Dead))
    }

    /// The answer of a turn that was written: what is due now.
    pub fn end_turn(&mut self, log: &Log, stored: &Subscription, settings: &Settings) {
        for (seq, _) in log.committed() {
            let Some(Row::Retrying(attempts)) = stored.row(seq) else { continue };
            let is_unwritten = self.entries.iter().any(|(entry, _)| *entry == seq);
            let is_held = self.retries.iter().any(|retry| retry.seq == seq);
            if !is_held && (!is_unwritten || settings.rule == Rule::UnwrittenIsDue) {
                self.retries.push(Retry { seq, attempts, is_flying: false });
            }
        }
    }

    /// Nothing is left to do, as far as this loop can know.
    pub fn is_at_rest(&self, log: &Log) -> bool {
        let is_current = self.head.snap == log.snapshot() && self.head.window.is_none();
        self.is_trusted && is_current && self.segments.is_empty() && self.is_drained() && self.retries.is_empty()
    }
}

impl Flush {
    pub fn write(&self, stored: &mut Subscription) {
        (stored.place, stored.done) = (self.place, self.done);
        for (seq, row) in &self.rows {
            stored.write(*seq, *row);
        }
    }
}

fn policy(max_attempts: u32) -> RetryPolicy {
    let second = Duration::from_secs(1);
    RetryPolicy { backoff: Backoff::exponential(second, 2.0, second, 0.0).expect("valid"), max_attempts, max_age: None }
}

pub fn verdict(succeeds: bool) -> Verdict {
    if succeeds { Verdict::delivered() } else { Verdict::retry(Reason::ServerError, "") }
}

/// The numbers of an `int8multirange`.
fn numbers(text: &str) -> Set {
    let ranges = text.trim_matches(['{', '}']).split("),");
    let bounds = ranges.filter_map(|range| range.trim_matches(['[', ')']).split_once(','));
    let bounds = bounds.map(|(from, to)| (from.parse::<u8>().expect("a number"), to.parse::<u8>().expect("a number")));
    bounds.flat_map(|(from, to)| from..to).fold(0, |set, seq| set | 1 << seq)
}

fn without_gaps(set: Set) -> Set {
    let (first, last) = (set.trailing_zeros(), Set::BITS - set.leading_zeros());
    (first..last).fold(set, |set, seq| set | 1 << seq)
}

/// Whether what is stored says that this event needs no attempt any more.
pub fn is_settled(stored: &Subscription, log: &Log, seq: u8) -> bool {
    match stored.row(seq) {
        Some(Row::Delivered | Row::Dead) => true,
        Some(Row::Retrying(_)) => false,
        None => holds(stored.done, seq) || stored.place.covers(seq, log.event(seq)),
    }
}

#[test]
fn positions_survive_the_way_through_the_small_world() {
    use super::log::{Open, Snap};
    let snap = Snap { xmax: 9, running: 1 << 5 | 1 << 7 };
    assert_eq!(snap.real().as_str(), "5:9:5,7");
    let place = Place::beginning().inside(Open { snap, low: 2, high: 4, seq: 1 });
    assert_eq!(Place::of(&place.real()), place);
    assert_eq!(Place::beginning().real(), Position::beginning());
    assert_eq!(numbers("{[1,3),[5,6)}"), 0b10_0110);
}
