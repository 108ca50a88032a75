//! Progress: what a loop has read and not yet settled, between the stored position and the reading head.
//!
//! Attempts end in any order, but a position can only move forward. Progress is a queue of segments (a segment is a window, or
//! one page of a window). Each segment counts its events that have no outcome yet. `advance` removes the settled segments at the
//! front; the end of the last one removed becomes the position. So a position never passes an event without an outcome.
//!
//! Outcomes beyond the position must survive a restart. Each one is recorded in one of two ways:
//!
//! - as a row in `deliveries`;
//! - with `record = "failures"`, where a first-try success has no row, as a range in the multirange `done` of the subscription.
//!   Ranges join only where sequence numbers are adjacent: a gap may be an event that commits later.
//!
//! `done` is written with every flush for as long as one event at the front has no outcome, so it must stay small. Above 1,000
//! ranges, `take_scattered` turns the shortest ranges into rows.
//!
//! A failed event does not hold the position: its row in `deliveries` is its outcome for the log, and from then on the row is
//! retried.

use std::collections::VecDeque;

use super::{Position, Record};

/// One segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct SegmentId(u64);

#[derive(Debug)]
struct Segment {
    end: Position,
    outstanding: usize,
    /// Settled without a row of their own: ranges, ends excluded, in order.
    done: Vec<(i64, i64)>,
    /// The same, not in `done` yet.
    fresh: Vec<i64>,
}

impl Segment {
    /// Enters what is fresh into the ranges.
    fn compact(&mut self) {
        if !self.fresh.is_empty() {
            self.done.extend(self.fresh.drain(..).map(|seq| (seq, seq + 1)));
            self.done = merged(std::mem::take(&mut self.done));
        }
    }
}

/// Ranges that touch become one. Only numbers that are really next to each other do: a gap may be an event that commits later.
fn merged(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// All segments between the position and the head.
#[derive(Debug)]
pub struct Progress {
    record: Record,
    segments: VecDeque<Segment>,
    first: u64,
    outstanding: usize,
}

impl Progress {
    pub fn new(record: Record) -> Self {
        Self { record, segments: VecDeque::new(), first: 0, outstanding: 0 }
    }

    /// Appends a segment that ends at `end` and has `outstanding` events without an outcome.
    pub fn push(&mut self, end: Position, outstanding: usize) -> SegmentId {
        self.outstanding += outstanding;
        // A look at the log that found nothing only moves the end of what was read before. Kept apart, they would pile up behind one
        // event that waits for hours, such as the one that an open circuit holds.
        if let Some(last) = self.segments.back_mut().filter(|_| outstanding == 0) {
            last.end = end;
            return SegmentId(self.first + self.segments.len() as u64 - 1);
        }
        self.segments.push_back(Segment { end, outstanding, done: Vec::new(), fresh: Vec::new() });
        SegmentId(self.first + self.segments.len() as u64 - 1)
    }

    /// One event of the segment has an outcome; `has_row`: a row records it, and not only the position.
    pub fn settle(&mut self, id: SegmentId, seq: i64, has_row: bool) {
        let place = id.0.checked_sub(self.first).expect("a segment stays until all of it is settled");
        let segment = self.segments.get_mut(place as usize).expect("a settled event belongs to a segment that was read");
        segment.outstanding -= 1;
        self.outstanding -= 1;
        if !has_row && self.record == Record::Failures {
            segment.fresh.push(seq);
        }
    }

    /// Removes the settled segments at the front and gives the end of the last.
    pub fn advance(&mut self) -> Option<Position> {
        let mut reached = None;
        while self.segments.front().is_some_and(|segment| segment.outstanding == 0) {
            reached = self.segments.pop_front().map(|segment| segment.end);
            self.first += 1;
        }
        reached
    }

    /// The position has moved over this segment.
    pub fn has_passed(&self, id: SegmentId) -> bool {
        id.0 < self.first
    }

    /// Events read and without an outcome.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Nothing is read that is not settled.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Settled events beyond the position that have no row, as an `int8multirange`; `None` if there are none.
    pub fn done_ranges(&self) -> Option<String> {
        let ranges = self.ranges();
        let text = ranges.iter().map(|(from, to)| format!("[{from},{to})")).collect::<Vec<_>>().join(",");
        (!ranges.is_empty()).then(|| format!("{{{text}}}"))
    }

    /// Keeps the number of ranges small: with more than `most` of them, the shortest are taken out, and the numbers in them are returned:
    /// each gets a row. While one event waits for its outcome, everything behind it is written with every flush; numbers that have gaps
    /// between them, as with a filter or partitions, would make that larger and larger.
    pub fn take_scattered(&mut self, most: usize) -> Vec<i64> {
        self.segments.iter_mut().for_each(Segment::compact);
        if self.segments.iter().map(|segment| segment.done.len()).sum::<usize>() <= most {
            return Vec::new();
        }
        let mut ranges = self.ranges();
        if ranges.len() <= most {
            return Vec::new();
        }
        ranges.sort_unstable_by_key(|(from, to)| (to - from, *from));
        ranges.truncate(ranges.len() - most / 2);
        let mut budget = MOST_ROWS;
        ranges.retain(|(from, to)| {
            let fits = budget > 0;
            budget = budget.saturating_sub(to - from);
            fits
        });
        ranges.sort_unstable();
        let is_taken = |(from, _): (i64, i64)| {
            let place = ranges.partition_point(|(begin, _)| *begin <= from);
            place.checked_sub(1).is_some_and(|place| from < ranges[place].1)
        };
        let mut taken = Vec::new();
        for segment in &mut self.segments {
            segment.done.retain(|range| {
                if is_taken(*range) {
                    taken.extend(range.0..range.1);
                }
                !is_taken(*range)
            });
        }
        taken
    }

    fn ranges(&self) -> Vec<(i64, i64)> {
        let one = |segment: &Segment| segment.fresh.iter().map(|seq| (*seq, *seq + 1)).collect::<Vec<_>>();
        merged(self.segments.iter().flat_map(|segment| segment.done.iter().copied().chain(one(segment))).collect())
    }
}

/// Rows that one flush gets beyond its own, about.
const MOST_ROWS: i64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn end(seq: i64) -> Position {
        Position { high_seq: seq, ..Position::beginning() }
    }

    #[test]
    fn the_position_moves_over_the_settled_front_only() {
        let mut progress = Progress::new(Record::All);
        let (first, second) = (progress.push(end(1), 2), progress.push(end(2), 1));
        progress.settle(second, 12, true);
        progress.settle(first, 10, true);
        assert_eq!(progress.advance(), None);
        assert!(!progress.has_passed(first), "settled in part");
        progress.settle(first, 11, true);
        assert_eq!(progress.advance(), Some(end(2)));
        assert!(progress.is_empty() && progress.has_passed(second));
        let third = progress.push(end(3), 1);
        progress.settle(third, 13, true);
        assert_eq!(progress.advance(), Some(end(3)));
    }

    #[test]
    fn reads_of_nothing_do_not_pile_up_behind_an_event_that_waits() {
        let mut progress = Progress::new(Record::All);
        let waiting = progress.push(end(1), 1);
        let looks: Vec<_> = (2..1_000).map(|seq| progress.push(end(seq), 0)).collect();
        assert_eq!(
            progress.segments.len(),
            1,
            "seen in the model: one more for each look, a look a second, while a circuit is open"
        );
        assert!(progress.advance().is_none() && !looks.iter().any(|look| progress.has_passed(*look)));
        progress.settle(waiting, 1, true);
        assert_eq!(progress.advance(), Some(end(999)));
        assert!(looks.iter().all(|look| progress.has_passed(*look)));
    }

    #[test]
    fn ranges_never_span_a_number_that_is_not_done() {
        let mut progress = Progress::new(Record::Failures);
        let segment = progress.push(end(9), 9);
        for seq in [10, 11, 12, 14, 20] {
            progress.settle(segment, seq, false);
        }
        progress.settle(segment, 15, true);
        assert_eq!(progress.done_ranges().as_deref(), Some("{[10,13),[14,15),[20,21)}"));
    }

    #[test]
    fn ranges_without_end_become_rows_and_a_long_one_stays() {
        let mut progress = Progress::new(Record::Failures);
        let (first, second) = (progress.push(end(1), 2), progress.push(end(9), 100_000));
        progress.settle(first, 1, false);
        (1_000..50_000).for_each(|seq| progress.settle(second, seq, false));
        assert!(progress.take_scattered(10).is_empty());
        (0..20).for_each(|n| progress.settle(second, 100 + 2 * n, false));
        let rows = progress.take_scattered(10);
        assert_eq!(rows, std::iter::once(1).chain((0..16).map(|n| 100 + 2 * n)).collect::<Vec<_>>(), "the first of the shortest");
        assert_eq!(
            progress.done_ranges().as_deref(),
            Some("{[132,133),[134,135),[136,137),[138,139),[1000,50000)}"),
            "half as many as there may be, so that it does not begin again with the next event"
        );
        assert!(progress.take_scattered(10).is_empty());
        assert_eq!(progress.outstanding(), 1 + 100_000 - 49_000 - 20);
    }
}
