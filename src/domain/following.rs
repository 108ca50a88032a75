//! Versions of a projection beside one another: how far one that is built may read, so that it never passes the live one, and whether it
//! has come as far. Pure: positions in, a stretch of the log out.

use super::{OpenWindow, Position};

/// The next read of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stretch {
    /// Everything between its own position and this one, which has no open window.
    Window(Position),
    /// The part of a window up to and including this sequence number. The window is the one that it reads already, or the one that the live
    /// version reads; then its `seq` says nothing, and the first number has to be looked for.
    Page { window: OpenWindow, up_to: i64, is_open: bool },
    /// It is where the live version is.
    Nothing,
    /// It has read events that the live version has not: an operator has moved the live one back. It waits.
    Ahead,
}

/// The next read of a version at `own` that stays at or behind `live`.
pub fn follow(own: &Position, live: &Position) -> Stretch {
    let Some(window) = &own.window else { return follow_from(own, live) };
    if live.snapshot.contains(&window.snapshot) {
        return Stretch::Page { window: window.clone(), up_to: window.high_seq, is_open: true };
    }
    match &live.window {
        Some(other) if other.snapshot == window.snapshot && is_same_moment(own, live) => {
            let up_to = other.seq.min(window.high_seq);
            if up_to > window.seq { Stretch::Page { window: window.clone(), up_to, is_open: true } } else { Stretch::Nothing }
        }
        // The live version has read more of another window, or less of this one.
        _ => Stretch::Ahead,
    }
}

/// The same between two windows.
fn follow_from(own: &Position, live: &Position) -> Stretch {
    if !is_same_moment(own, live) {
        return match live.snapshot.contains(&own.snapshot) {
            true => Stretch::Window(Position { window: None, ..live.clone() }),
            false => Stretch::Ahead,
        };
    }
    match &live.window {
        Some(window) => Stretch::Page { window: window.clone(), up_to: window.seq, is_open: false },
        None => Stretch::Nothing,
    }
}

/// Whether everything that has an outcome at `live` has one at `own`, which follows it.
pub fn covers(own: &Position, live: &Position) -> bool {
    match (&own.window, &live.window) {
        (None, None) => own.snapshot.contains(&live.snapshot),
        (None, Some(window)) => own.snapshot.contains(&window.snapshot),
        (Some(_), None) => false,
        (Some(own_window), Some(window)) => {
            is_same_moment(own, live) && own_window.snapshot == window.snapshot && own_window.seq >= window.seq
        }
    }
}

/// How far a position has come, as a sequence number: near enough to show progress.
pub fn reached_seq(position: &Position) -> i64 {
    position.window.as_ref().map_or(position.high_seq, |window| window.seq)
}

fn is_same_moment(own: &Position, live: &Position) -> bool {
    own.snapshot.contains(&live.snapshot) && live.snapshot.contains(&own.snapshot)
}

/// Which events to try next, so that the one at fault is found: after a failure half of them, and so on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// One of the events up to this number makes the function fail.
    suspect_to: Option<i64>,
}

impl Narrowing {
    /// How many of these, in their order, to try at once; at most `limit`, at least one.
    pub fn take(&mut self, seqs: impl Iterator<Item = i64>, limit: usize) -> usize {
        let Some(last) = self.suspect_to else { return limit.max(1) };
        let suspects = seqs.take_while(|seq| *seq <= last).count();
        if suspects == 0 {
            self.suspect_to = None;
            return limit.max(1);
        }
        suspects.div_ceil(2).min(limit).max(1)
    }

    /// The call has failed; its last event has this sequence number.
    pub fn failed(&mut self, last: i64) {
        self.suspect_to = Some(last);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Snapshot;
    use super::*;

    fn snapshot(xmax: u64) -> Snapshot {
        format!("{xmax}:{xmax}:").parse().expect("a snapshot")
    }

    fn at(xmax: u64) -> Position {
        Position { snapshot: snapshot(xmax), low_seq: 0, high_seq: xmax.cast_signed() * 10, window: None }
    }

    fn within(xmax: u64, window: u64, seq: i64) -> Position {
        let end = at(window);
        at(xmax).inside(OpenWindow { snapshot: end.snapshot, low_seq: 0, high_seq: end.high_seq, seq })
    }

    fn page(from: &Position, up_to: i64, is_open: bool) -> Stretch {
        Stretch::Page { window: from.window.clone().expect("a window"), up_to, is_open }
    }

    #[test]
    fn a_version_reads_up_to_the_live_one_and_no_further() {
        for (own, live, want, is_there) in [
            (at(5), at(5), Stretch::Nothing, true),
            (at(5), at(9), Stretch::Window(at(9)), false),
            (at(9), at(5), Stretch::Ahead, true),
            // The live version is in a window: what came before it first, then as much of it.
            (at(5), within(9, 12, 100), Stretch::Window(at(9)), false),
            (at(9), within(9, 12, 100), page(&within(9, 12, 100), 100, false), false),
            (within(9, 12, 95), within(9, 12, 100), page(&within(9, 12, 95), 100, true), false),
            (within(9, 12, 100), within(9, 12, 100), Stretch::Nothing, true),
            // It has finished the window, or more.
            (within(9, 12, 95), at(12), page(&within(9, 12, 95), 120, true), false),
            (within(9, 12, 95), within(14, 20, 190), page(&within(9, 12, 95), 120, true), false),
            // It was moved back.
            (within(9, 12, 95), at(9), Stretch::Ahead, false),
            (within(9, 12, 95), within(9, 11, 95), Stretch::Ahead, false),
        ] {
            assert_eq!(follow(&own, &live), want, "{own:?} {live:?}");
            assert_eq!(covers(&own, &live), is_there, "{own:?} {live:?}");
        }
    }

    #[test]
    fn what_follows_arrives_where_the_live_version_is() {
        // Whatever the live version does, following it step by step ends in the same place.
        let lives = [at(5), within(5, 9, 60), within(5, 9, 80), at(9), within(9, 12, 95), within(12, 20, 150), at(20)];
        for start in 0..lives.len() {
            let mut own = at(5);
            for live in &lives[start..] {
                for _ in 0..8 {
                    own = match follow(&own, live) {
                        Stretch::Window(until) => until,
                        Stretch::Page { window, up_to, .. } if up_to == window.high_seq => {
                            own.after(window.snapshot.clone(), window.high_seq)
                        }
                        Stretch::Page { window, up_to, .. } => own.inside(OpenWindow { seq: up_to, ..window }),
                        Stretch::Nothing => break,
                        Stretch::Ahead => panic!("{own:?} is ahead of {live:?}"),
                    };
                }
                assert!(covers(&own, live) && covers(live, &own), "{own:?} {live:?}");
            }
        }
    }

    #[test]
    fn the_event_at_fault_is_found_in_a_few_tries() {
        for fault in 1..=500 {
            let (mut narrowing, mut next, mut tries) = (Narrowing::default(), 1_i64, 0);
            let found = loop {
                let count = narrowing.take(next..=500, 500).min(usize::try_from(501 - next).expect("small")) as i64;
                tries += 1;
                let last = next + count - 1;
                match (next..=last).contains(&fault) {
                    false => next = last + 1,
                    true if count == 1 => break next,
                    true => narrowing.failed(last),
                }
            };
            assert_eq!(found, fault);
            assert!(tries <= 20, "{fault}: {tries}");
        }
        let mut narrowing = Narrowing::default();
        narrowing.failed(7);
        assert_eq!(narrowing.take([8, 9].into_iter(), 100), 100, "behind the fault all of them again");
    }
}
