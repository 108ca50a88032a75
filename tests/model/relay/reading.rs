//! How a loop reads, as `relay::reader`, `read_window.sql`, `open_window.sql` and `read_page.sql` do it together.

use super::{Loop, Recovery, Segment, Settings, Stage, Subscription};
use crate::log::{Log, Open, Place, Snap, holds};
use crate::rules::Rule;

impl Loop {
    /// Room for a read: what is held in memory is bounded. A loop whose lease is over may read as well, but nothing that it reads can
    /// have an effect any more, so the search leaves that out.
    pub fn may_read(&self) -> bool {
        let held = self.segments.iter().flat_map(|segment| &segment.events);
        self.is_trusted && held.filter(|(_, stage)| !matches!(stage, Stage::Settled { .. })).count() < 2
    }

    /// One statement of the reader, and what it means for the loop.
    pub fn read(&mut self, log: &Log, stored: &Subscription, settings: &Settings) {
        if settings.rule == Rule::Numbers {
            return self.read_by_numbers(log);
        }
        match (self.head.window, self.opening.take()) {
            (Some(open), _) => self.read_page(open, false, log, stored, settings),
            (None, Some(low)) => {
                let open = self.open_window(low, log, settings);
                self.read_page(open, true, log, stored, settings);
            }
            (None, None) if self.expects_large || self.recovery != Recovery::No => self.opening = Some(log.last_seq()),
            (None, None) => self.read_window(log, settings),
        }
    }

    fn read_window(&mut self, log: &Log, settings: &Settings) {
        let now = log.snapshot();
        let from = self.head.snap;
        let is_in = |tx: u8| tx >= from.xmax || (settings.rule != Rule::NoStragglers && holds(from.running, tx) && now.sees(tx));
        let seqs: Vec<u8> = log.committed().filter(|(_, event)| is_in(event.tx)).map(|(seq, _)| seq).collect();
        if seqs.len() > settings.room {
            self.opening = Some(log.last_seq());
            return;
        }
        self.take_segment(seqs, self.head.after(now, log.last_seq()), false, false);
    }

    /// `open_window.sql`: the end of the window, and where its first row may be.
    fn open_window(&self, low: u8, log: &Log, settings: &Settings) -> Open {
        let from = self.head.snap;
        let listed = log.committed().filter(|(_, event)| holds(from.running, event.tx)).map(|(seq, _)| seq).min();
        let mut beyond: Vec<(u8, u8)> =
            log.committed().filter(|(_, event)| event.tx >= from.xmax).map(|(seq, event)| (event.tx, seq)).collect();
        beyond.sort_unstable();
        beyond.dedup_by_key(|(tx, _)| *tx);
        let beyond = beyond.into_iter().take(settings.most_running + 1).map(|(_, seq)| seq).min();
        let first = match settings.rule {
            Rule::NoBound => None,
            Rule::ListedOnly => listed,
            _ => listed.into_iter().chain(beyond).min(),
        };
        let seq = first.map_or(self.head.low, |seq| (seq - 1).min(self.head.low));
        Open { snap: log.snapshot(), low, high: log.last_seq(), seq }
    }

    fn read_page(&mut self, open: Open, opened_now: bool, log: &Log, stored: &Subscription, settings: &Settings) {
        const SPAN: u8 = 2;
        let head = self.head.inside(open);
        let is_new = |seq: u8| stored.row(seq).is_none() && !holds(self.recorded_done, seq);
        let to = open.high.min(open.seq + SPAN);
        let seqs: Vec<u8> = log
            .committed()
            .filter(|(seq, event)| *seq > open.seq && *seq <= to && !head.snap.sees(event.tx) && open.snap.sees(event.tx))
            .map(|(seq, _)| seq)
            .filter(|seq| self.recovery == Recovery::No || is_new(*seq))
            .take(settings.room)
            .collect();
        let read_to = match seqs.last() {
            Some(last) if seqs.len() >= settings.room => *last,
            None if to < open.high => {
                log.committed().map(|(seq, _)| seq).find(|seq| *seq > to && *seq <= open.high).map_or(open.high, |seq| seq - 1)
            }
            _ => to,
        };
        let has_more = read_to < open.high;
        let end = if has_more { head.inside(Open { seq: read_to, ..open }) } else { head.after(open.snap, open.high) };
        if let Recovery::Yes { covers_all } = &mut self.recovery {
            *covers_all |= opened_now || settings.rule == Rule::ShortRecovery;
            if *covers_all && !has_more {
                self.recovery = Recovery::No;
                self.recorded_done = 0;
                self.carries_until_next = true;
            }
        }
        if settings.rule == Rule::CarriedForgotten {
            self.carried = 0;
        }
        self.take_segment(seqs, end, has_more, true);
    }

    /// The wrong rule of everybody's first outbox.
    fn read_by_numbers(&mut self, log: &Log) {
        let seqs: Vec<u8> = log.committed().map(|(seq, _)| seq).filter(|seq| *seq > self.head.high).collect();
        let high = seqs.last().copied().unwrap_or(self.head.high);
        // As a position of the real kind: everything up to the number, whatever its transaction.
        let snap = Snap { xmax: 15, running: 0 };
        let open = Open { snap, low: 0, high, seq: high };
        self.take_segment(seqs, Place { high, window: Some(open), ..Place::beginning() }, false, false);
    }

    fn take_segment(&mut self, seqs: Vec<u8>, end: Place, has_more: bool, is_page: bool) {
        let (was_open, is_empty) = (self.head.window.is_some(), seqs.is_empty());
        self.expects_large = is_page && (has_more || (was_open && !seqs.is_empty()));
        self.head = end;
        self.has_moved |= !seqs.is_empty();
        let events = seqs.into_iter().map(|seq| (seq, Stage::Queued)).collect();
        let ends_carrying = std::mem::take(&mut self.carries_until_next);
        match self.segments.last_mut() {
            // As the domain's progress does it: a loop that waits for one event must not remember every look at the log.
            Some(last) if is_empty => {
                last.end = end;
                last.ends_carrying |= ends_carrying;
            }
            _ => self.segments.push(Segment { end, events, ends_carrying }),
        }
        self.advance();
    }
}
