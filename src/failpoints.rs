//! Failpoints: named places between reading and recording where a test kills this process or stops it, to see what the next owner
//! does with what is stored. `failpoint!` compiles to nothing in a release build without the feature `failpoints`. Never changes
//! what the process does in between.

/// Passes a named point. With a condition, only what fulfils it counts as a passing.
#[cfg(any(debug_assertions, feature = "failpoints"))]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoints::pass($name)
    };
    ($name:literal, $counts:expr) => {
        if $crate::failpoints::is_armed() && $counts {
            $crate::failpoints::pass($name)
        }
    };
}
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
macro_rules! failpoint {
    ($($nothing:tt)*) => {};
}
pub(crate) use failpoint;

#[cfg(any(debug_assertions, feature = "failpoints"))]
pub use armed::{FORGET_NAMES, NAMES, PROJECTION_NAMES, VARIABLE, arm, is_armed, pass};

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// Names a point, what happens there, and at which passing: `<name>=kill@<n>,<name>=stop@<n>`; without `@<n>` at the first.
    pub const VARIABLE: &str = "OUTBOXD_FAILPOINTS";

    /// Every point there is, in the order in which an event meets them.
    pub const NAMES: &[&str] = &[
        // The process and its leases.
        "handlers-registered",
        "lease-acquired",
        "lease-renewed",
        "lease-released",
        "subscription-taken-up",
        // Reading.
        "window-opened",
        "window-read",
        "page-read",
        "gate-passed",
        "segment-taken",
        "due-read",
        "waiting-read",
        // Attempts.
        "attempt-counted",
        "attempt-begun",
        "retry-begun",
        "answer-received",
        "outcome-settled",
        // The flush: all from "position-advanced" to "flush-written" are before its commit.
        "flush-begun",
        "position-advanced",
        "dead-letter-written",
        "retry-written",
        "waiting-written",
        "flush-written",
        "flush-committed",
        "circuit-recorded",
        // Functions in the transaction that records them.
        "function-called",
        "function-recorded",
        "function-committed",
        // Replays and moves; "replay-frozen" and "position-moved" are passed by a command.
        "replay-frozen",
        "replay-released",
        "replay-settled",
        "replay-finished",
        "position-moved",
        // Retention and alerts.
        "retention-removed",
        "retention-committed",
        "alerts-stepped",
        "alert-sent",
        "alert-noted",
    ];

    /// Those that only a projection, or a command about one, passes.
    pub const PROJECTION_NAMES: &[&str] = &[
        "projection-called",
        "projection-recorded",
        "projection-committed",
        "projection-stopped",
        // Passed by commands.
        "projection-restarted",
        "projection-skipped",
        "projection-dropped",
        "projection-switch-locked",
        "projection-view-replaced",
        "projection-switched",
    ];

    /// Those that `outboxd forget` passes.
    pub const FORGET_NAMES: &[&str] = &["subject-in-ledger", "subject-destroyed", "subject-cleared"];

    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();

    /// An unknown name would test nothing without notice; so it ends the process.
    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    pub enum Unknown {
        #[error("{VARIABLE}: got {0:?}, expected <name>=kill@<n> or <name>=stop@<n>")]
        Entry(String),
        #[error("{VARIABLE}: there is no failpoint {0:?}; there are {names}", names = [NAMES, PROJECTION_NAMES, FORGET_NAMES].concat().join(", "))]
        Name(String),
    }

    /// Sends this process a signal at a certain passing.
    #[derive(Debug)]
    struct Point {
        name: &'static str,
        signal: i32,
        at: u64,
        passed: AtomicU64,
    }

    /// Takes up what the environment asks for.
    pub fn arm() -> Result<(), Unknown> {
        let Some(text) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) else { return Ok(()) };
        let points = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        IS_ARMED.store(POINTS.set(points).is_ok(), Ordering::Relaxed);
        Ok(())
    }

    pub fn is_armed() -> bool {
        IS_ARMED.load(Ordering::Relaxed)
    }

    /// Passes a point, if it lets us.
    pub fn pass(name: &str) {
        if !is_armed() {
            return;
        }
        debug_assert!([NAMES, PROJECTION_NAMES, FORGET_NAMES].iter().any(|names| names.contains(&name)), "{name} is a failpoint");
        for point in POINTS.get().into_iter().flatten().filter(|point| point.name == name) {
            if point.passed.fetch_add(1, Ordering::SeqCst) + 1 == point.at {
                // To this very thread, so that it is the next instruction which is not reached; `kill` would let it run on for a moment.
                // SAFETY: takes a number; this signal cannot be caught, so no code of ours runs in a handler.
                unsafe { libc::raise(point.signal) };
            }
        }
    }

    fn parse(entry: &str) -> Result<Point, Unknown> {
        let wrong = || Unknown::Entry(entry.to_owned());
        let (name, action) = entry.trim().split_once('=').ok_or_else(wrong)?;
        let (action, at) = action.split_once('@').unwrap_or((action, "1"));
        let at = at.parse().ok().filter(|at| *at > 0).ok_or_else(wrong)?;
        let signal = match action {
            "kill" => libc::SIGKILL,
            "stop" => libc::SIGSTOP,
            _ => return Err(wrong()),
        };
        let mut names = NAMES.iter().chain(PROJECTION_NAMES).chain(FORGET_NAMES);
        let name = names.find(|known| **known == name).ok_or_else(|| Unknown::Name(name.to_owned()))?;
        Ok(Point { name, signal, at, passed: AtomicU64::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use std::collections::BTreeMap;
        use std::path::Path;

        use super::*;

        #[test]
        fn an_entry_names_a_point_an_action_and_a_passing() {
            for (text, name, signal, at) in [
                ("flush-written=kill", "flush-written", libc::SIGKILL, 1),
                (" window-read=stop@3 ", "window-read", libc::SIGSTOP, 3),
            ] {
                let point = parse(text).expect("it is well formed");
                assert_eq!((point.name, point.signal, point.at), (name, signal, at));
            }
            for text in ["", "flush-written", "flush-written=die", "flush-written=kill@0", "flush-written=kill@x", "x=kill"] {
                assert!(parse(text).is_err(), "{text}");
            }
        }

        #[test]
        fn every_point_is_placed_once_and_every_placed_one_has_a_name() {
            let mut placed = BTreeMap::new();
            count_placed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut placed);
            let listed: BTreeMap<String, usize> =
                NAMES.iter().chain(PROJECTION_NAMES).chain(FORGET_NAMES).map(|name| ((*name).to_owned(), 1)).collect();
            assert_eq!(placed, listed);
        }

        fn count_placed(directory: &Path, placed: &mut BTreeMap<String, usize>) {
            for entry in std::fs::read_dir(directory).expect("the sources can be listed").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    count_placed(&path, placed);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).expect("a source can be read");
                    for place in text.split(concat!("failpoint", "!(")).skip(1) {
                        let name = place.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                        *placed.entry(name.map_or_else(String::new, |(name, _)| name.to_owned())).or_default() += 1;
                    }
                }
            }
        }
    }
}
