//! The story: one line per interesting event, printed while it happens.
//! Follows some orders from beginning to end rather than all of them in bits, so that it can be read at any rate; of the others it
//! tells the trouble.
//! Lines go through a channel: a stopped terminal must not stop the relay.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ledger::{Arrival, Entry};
use super::outage::OutageKind;

/// Orders followed per second, about.
const FOLLOWED: f64 = 1.5;
/// Lines per second above which even what concerns everybody is left out.
const MOST_LINES: u32 = 12;

/// Something that happened.
#[derive(Debug)]
pub enum Fact {
    Recorded {
        events: Vec<(i64, &'static str)>,
    },
    RolledBack {
        events: Vec<(i64, &'static str)>,
    },
    Delivered {
        entry: Entry,
        arrival: Arrival,
        had_failed: bool,
        was_dead: bool,
    },
    Retrying {
        entry: Entry,
        attempt: u64,
        cause: String,
        again_in: String,
    },
    Dead {
        entry: Entry,
        cause: String,
    },
    SlowedDown {
        pause: String,
    },
    CircuitOpened {
        cause: String,
        probe_in: String,
    },
    CircuitClosed,
    OutageBegan {
        kind: OutageKind,
        lasts: Duration,
    },
    OutageEnded {
        requests: u64,
    },
    Summary(String),
    /// A line as it is.
    Line(String),
    /// Nothing comes after this.
    End,
}

/// Takes facts; cheap to clone, never waits.
#[derive(Debug, Clone)]
pub struct Story {
    facts: mpsc::UnboundedSender<Fact>,
}

/// Prints them.
pub struct Teller {
    story: Story,
    task: JoinHandle<()>,
}

/// How it is told.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub is_coloured: bool,
    /// To standard error, because standard output is for the result.
    pub aside: bool,
    pub orders_per_second: f64,
}

impl Manner {
    /// Colour only on a terminal, and not there if `NO_COLOR` is set.
    pub fn new(no_color: bool, aside: bool, orders_per_second: f64) -> Self {
        let refused = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = if aside { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Self { is_coloured: is_terminal && !refused, aside, orders_per_second }
    }

    /// One order in so many is followed.
    pub fn stride(&self) -> i64 {
        (self.orders_per_second / FOLLOWED).ceil().max(1.0) as i64
    }
}

impl Story {
    /// Starts. `stop` is cancelled when standard output is closed.
    pub fn begin(manner: Manner, stop: CancellationToken) -> (Self, Teller) {
        let (facts, mut told) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut pen = Pen { manner, started: Instant::now(), second: 0, lines: 0, is_circuit_open: false, last_pause: None };
            while let Some(fact) = told.recv().await {
                if matches!(fact, Fact::End) {
                    break;
                }
                let Some(text) = pen.line(fact) else { continue };
                if write(manner.aside, &text).is_err() {
                    stop.cancel();
                }
            }
        });
        let story = Self { facts };
        (story.clone(), Teller { story, task })
    }

    pub fn tell(&self, fact: Fact) {
        self.facts.send(fact).ok(); // at the very end the receiver has gone
    }

    /// Tells a line as it is.
    pub fn say(&self, text: impl Into<String>) {
        self.tell(Fact::Line(text.into()));
    }
}

impl Teller {
    /// Tells everything up to now, and nothing after it. The log layer holds a [`Story`] as long as the process lives.
    pub async fn finish(self) {
        self.story.tell(Fact::End);
        self.task.await.ok(); // a panic has been reported by its own task
    }
}

fn write(aside: bool, line: &str) -> io::Result<()> {
    let mut output: Box<dyn Write> = if aside { Box::new(io::stderr().lock()) } else { Box::new(io::stdout().lock()) };
    writeln!(output, "{line}")?;
    output.flush()
}

/// Makes lines of facts, or nothing of those that are not for reading.
struct Pen {
    manner: Manner,
    started: Instant,
    second: u64,
    lines: u32,
    is_circuit_open: bool,
    last_pause: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Ink {
    Plain,
    Dim,
    Green,
    Yellow,
    Red,
    Blue,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Blue => "36",
        }
    }
}

impl Pen {
    fn line(&mut self, fact: Fact) -> Option<String> {
        match fact {
            Fact::Line(text) => Some(text),
            Fact::End => None,
            Fact::Summary(text) => Some(self.ink(Ink::Blue, &format!("{}  ---------  {text}", self.clock()))),
            Fact::Recorded { events } => {
                let (order, _) = *events.iter().find(|(order, _)| self.is_followed(*order))?;
                Some(self.entry(Ink::Plain, order, "recorded", &format!("{}, committed with the order", list(&events, order))))
            }
            Fact::RolledBack { events } => {
                let (order, _) = *events.first()?;
                let text = format!("{}: nothing will be sent", list(&events, order));
                self.may_speak().then(|| self.entry(Ink::Dim, order, "rolled back", &text))
            }
            Fact::Delivered { entry, arrival, had_failed, was_dead } => self.delivered(&entry, arrival, had_failed, was_dead),
            Fact::Retrying { entry, attempt, cause, again_in } => {
                let text = format!("{}, attempt {attempt}: {cause}; retry in {again_in}", entry.event_type);
                self.is_told(entry.order).then(|| self.entry(Ink::Yellow, entry.order, "failed", &text))
            }
            Fact::Dead { entry, cause } => {
                let text = format!("{}: {cause}; a dead letter now, kept until a person replays or discards it", entry.event_type);
                self.may_speak().then(|| self.entry(Ink::Red, entry.order, "given up", &text))
            }
            Fact::SlowedDown { pause } => self.paused(&pause),
            Fact::CircuitOpened { cause, probe_in } => {
                let (what, then) = if self.is_circuit_open {
                    ("still open", "the probe failed, events stay held")
                } else {
                    ("circuit open", "events are held and spend no attempt")
                };
                self.is_circuit_open = true;
                let text = format!("{cause}: {then}; next probe in {probe_in}");
                self.global(Ink::Yellow, "relay", what, &text)
            }
            Fact::CircuitClosed => {
                self.is_circuit_open = false;
                self.global(Ink::Green, "relay", "circuit closed", "the probe went through, deliveries go on")
            }
            Fact::OutageBegan { kind, lasts } => self.global(Ink::Red, "receiver", "outage", &outage(kind, lasts)),
            Fact::OutageEnded { requests } => {
                self.global(Ink::Green, "receiver", "works again", &format!("the outage cost {requests} requests and no event"))
            }
        }
    }

    /// Every event that was in flight brings its own request for a pause; one of them is enough to read.
    fn paused(&mut self, pause: &str) -> Option<String> {
        let now = Instant::now();
        let is_new = self.last_pause.is_none_or(|last| now.duration_since(last) > Duration::from_millis(500));
        self.last_pause = Some(now);
        let text = format!("the receiver asked for {pause} of silence; no attempt is spent");
        if is_new { self.global(Ink::Yellow, "relay", "paused", &text) } else { None }
    }

    fn delivered(&mut self, entry: &Entry, arrival: Arrival, had_failed: bool, was_dead: bool) -> Option<String> {
        let (ink, more) = match arrival {
            Arrival::OutOfOrder => (Ink::Red, " OUT OF ORDER"),
            Arrival::Again => (Ink::Yellow, " once more, with the same id"),
            Arrival::Unknown => (Ink::Red, " which was never recorded"),
            Arrival::InOrder if was_dead => (Ink::Green, ", a dead letter that was replayed"),
            Arrival::InOrder if had_failed => (Ink::Green, " after a retry"),
            Arrival::InOrder => (Ink::Green, ""),
        };
        let is_told = arrival != Arrival::InOrder
            || if had_failed || was_dead { self.is_told(entry.order) } else { self.is_followed(entry.order) };
        is_told.then(|| self.entry(ink, entry.order, "delivered", &format!("{}{more}", entry.event_type)))
    }

    fn is_followed(&self, order: i64) -> bool {
        order % self.manner.stride() == 0
    }

    /// Trouble of any order is worth a line, as long as there is room for one.
    fn is_told(&mut self, order: i64) -> bool {
        self.is_followed(order) || self.may_speak()
    }

    /// Bounds the lines that are not about a followed order.
    fn may_speak(&mut self) -> bool {
        let second = self.started.elapsed().as_secs();
        if second != self.second {
            (self.second, self.lines) = (second, 0);
        }
        self.lines += 1;
        self.lines <= MOST_LINES
    }

    fn global(&mut self, ink: Ink, who: &str, what: &str, text: &str) -> Option<String> {
        self.may_speak().then(|| self.ink(ink, &format!("{}  {who:<10} {what:<14} {text}", self.clock())))
    }

    fn entry(&self, ink: Ink, order: i64, what: &str, text: &str) -> String {
        let who = format!("order {order}");
        self.ink(ink, &format!("{}  {who:<10} {what:<14} {text}", self.clock()))
    }

    fn clock(&self) -> String {
        format!("{:>6.1}s", self.started.elapsed().as_secs_f64())
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.manner.is_coloured || matches!(ink, Ink::Plain) {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", ink.code())
    }
}

fn outage(kind: OutageKind, lasts: Duration) -> String {
    let seconds = lasts.as_secs_f64();
    match kind {
        OutageKind::Maintenance => format!("for {seconds:.1} s it answers 503 with Retry-After, as in a maintenance"),
        OutageKind::Locked => format!("for {seconds:.1} s it answers 401 to everything, as after a mistake with a key"),
    }
}

/// The events of a transaction: those of `order` by name, the others by their number.
fn list(events: &[(i64, &'static str)], order: i64) -> String {
    let (own, others): (Vec<_>, Vec<_>) = events.iter().partition(|(of, _)| *of == order);
    let names: Vec<&str> = own.iter().map(|(_, event_type)| *event_type).collect();
    match others.len() {
        0 => names.join(", "),
        1 => format!("{} (and 1 event of another order)", names.join(", ")),
        count => format!("{} (and {count} events of other orders)", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pen(is_coloured: bool) -> Pen {
        let manner = Manner { is_coloured, aside: false, orders_per_second: 3.0 };
        Pen { manner, started: Instant::now(), second: 0, lines: 0, is_circuit_open: false, last_pause: None }
    }

    #[test]
    fn an_order_is_followed_whole_or_not_at_all() {
        let mut pen = pen(false);
        let mut is_told = |order| pen.line(Fact::Recorded { events: vec![(order, "order.placed")] }).is_some();
        assert_eq!([is_told(1), is_told(2), is_told(3), is_told(4)], [false, true, false, true]);
    }

    #[test]
    fn colour_comes_only_when_it_is_wanted() {
        assert!(!pen(false).line(Fact::CircuitClosed).is_some_and(|line| line.contains('\x1b')));
        assert!(pen(true).line(Fact::CircuitClosed).is_some_and(|line| line.contains('\x1b')));
    }

    #[test]
    fn a_flood_of_lines_is_bounded() {
        let mut pen = pen(false);
        let told = (0..1000).filter_map(|_| pen.line(Fact::RolledBack { events: vec![(1, "order.placed")] })).count();
        assert!(told <= 2 * MOST_LINES as usize, "{told}");
    }
}
