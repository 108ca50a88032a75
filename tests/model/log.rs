//! A tiny Postgres: transactions that draw numbers early and commit late or never, snapshots as the server makes them, the log.
//! A snapshot ends at the last transaction that has *completed*: those that run above it are in nobody's list, here as there.

use outboxd::domain::{OpenWindow, Position, Snapshot};

/// A set of small numbers.
pub type Set = u16;

pub fn holds(set: Set, number: u8) -> bool {
    set >> number & 1 == 1
}

/// One writer: the keys of the events that its transaction inserts, in order.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    pub keys: &'static [u8],
    pub may_abort: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Idle,
    Open,
    Committed,
    Aborted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Writer {
    pub state: State,
    pub tx: u8,
    pub inserted: u8,
}

/// A row of `events`; its `seq` is its place, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    pub tx: u8,
    pub key: u8,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    pub writers: Vec<Writer>,
    pub events: Vec<Event>,
    next_tx: u8,
    last_completed: u8,
}

/// A `pg_snapshot`, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Snap {
    pub xmax: u8,
    pub running: Set,
}

impl Snap {
    pub fn sees(self, tx: u8) -> bool {
        tx < self.xmax && !holds(self.running, tx)
    }

    pub fn real(self) -> Snapshot {
        let running: Vec<String> = (0..16).filter(|tx| holds(self.running, *tx)).map(|tx| tx.to_string()).collect();
        let xmin = running.first().cloned().unwrap_or(self.xmax.to_string());
        format!("{xmin}:{}:{}", self.xmax, running.join(",")).parse().expect("a snapshot")
    }

    fn of(real: &Snapshot) -> Self {
        let running = real.as_str().rsplit(':').next().unwrap_or_default();
        let running = running.split(',').filter_map(|tx| tx.parse::<u8>().ok()).fold(0, |set, tx| set | 1 << tx);
        Self { xmax: u8::try_from(real.xmax()).expect("small"), running }
    }
}

/// A [`Position`], small; the arithmetic is the domain's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub snap: Snap,
    pub low: u8,
    pub high: u8,
    pub window: Option<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Open {
    pub snap: Snap,
    pub low: u8,
    pub high: u8,
    pub seq: u8,
}

impl Place {
    pub fn beginning() -> Self {
        Self::of(&Position::beginning())
    }

    pub fn real(self) -> Position {
        let window = self.window.map(|open| open.real());
        Position { snapshot: self.snap.real(), low_seq: self.low.into(), high_seq: self.high.into(), window }
    }

    pub fn of(real: &Position) -> Self {
        let number = |seq: i64| u8::try_from(seq).expect("small");
        let window = real.window.as_ref().map(|open| Open {
            snap: Snap::of(&open.snapshot),
            low: number(open.low_seq),
            high: number(open.high_seq),
            seq: number(open.seq),
        });
        Self { snap: Snap::of(&real.snapshot), low: number(real.low_seq), high: number(real.high_seq), window }
    }

    pub fn after(self, snap: Snap, high: u8) -> Self {
        Self::of(&self.real().after(snap.real(), high.into()))
    }

    pub fn inside(self, open: Open) -> Self {
        Self::of(&self.real().inside(open.real()))
    }

    /// Whoever begins at this position never reads this event.
    pub fn covers(self, seq: u8, event: Event) -> bool {
        self.snap.sees(event.tx) || self.window.is_some_and(|open| open.snap.sees(event.tx) && seq <= open.seq)
    }

    /// As `store::subscriptions` stores it: the nearer bound of a window is lost.
    pub fn stored(self) -> Self {
        Self { window: self.window.map(|open| Open { low: self.high, ..open }), ..self }
    }
}

impl Open {
    fn real(self) -> OpenWindow {
        OpenWindow { snapshot: self.snap.real(), low_seq: self.low.into(), high_seq: self.high.into(), seq: self.seq.into() }
    }
}

impl Log {
    pub fn new(writers: usize) -> Self {
        let idle = Writer { state: State::Idle, tx: 0, inserted: 0 };
        Self { writers: vec![idle; writers], events: Vec::new(), next_tx: 3, last_completed: 2 }
    }

    pub fn last_seq(&self) -> u8 {
        self.events.len() as u8
    }

    pub fn event(&self, seq: u8) -> Event {
        self.events[usize::from(seq) - 1]
    }

    /// Its transaction may still commit.
    pub fn is_open(&self, seq: u8) -> bool {
        self.event(seq).state == State::Open
    }

    /// `pg_current_snapshot()`.
    pub fn snapshot(&self) -> Snap {
        let xmax = self.last_completed + 1;
        let open = self.writers.iter().filter(|writer| writer.state == State::Open && writer.tx < xmax);
        Snap { xmax, running: open.fold(0, |set, writer| set | 1 << writer.tx) }
    }

    /// What a statement sees now: number and event.
    pub fn committed(&self) -> impl Iterator<Item = (u8, Event)> + '_ {
        (1..).zip(self.events.iter().copied()).filter(|(_, event)| event.state == State::Committed)
    }

    pub fn running(&self) -> usize {
        self.writers.iter().filter(|writer| writer.state == State::Open).count()
    }

    pub fn is_over(&self) -> bool {
        self.writers.iter().all(|writer| matches!(writer.state, State::Committed | State::Aborted))
    }

    pub fn begin(&mut self, writer: usize) {
        let writer = &mut self.writers[writer];
        (writer.state, writer.tx) = (State::Open, self.next_tx);
        self.next_tx += 1;
    }

    /// A writer locks what orders its aggregate before it inserts, until its end.
    pub fn may_insert(&self, writer: usize, key: u8) -> bool {
        let Writer { state, tx, .. } = self.writers[writer];
        let is_own = |event: &Event| state == State::Open && event.tx == tx;
        self.events.iter().all(|event| event.state != State::Open || event.key != key || is_own(event))
    }

    pub fn insert(&mut self, writer: usize, key: u8) {
        let writer = &mut self.writers[writer];
        writer.inserted += 1;
        self.events.push(Event { tx: writer.tx, key, state: State::Open });
    }

    pub fn end(&mut self, writer: usize, state: State) {
        let writer = &mut self.writers[writer];
        writer.state = state;
        self.last_completed = self.last_completed.max(writer.tx);
        for event in self.events.iter_mut().filter(|event| event.tx == writer.tx) {
            event.state = state;
        }
    }
}
