//! States: folded states that are kept every so many events, so that a long stream is not folded from its beginning. They are
//! copies: if a state cannot be used, the load folds the events instead.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How states of an aggregate are kept. Only an aggregate that serde can write and read has any:
///
/// ```compile_fail
/// # use outboxd::uow::sourcing::States;
/// struct Account { points: i64 }
/// let states: States<Account> = States::new(1, 100); // error: it cannot be serialised
/// ```
pub struct States<A> {
    /// Number of the fold and of the form of its state.
    pub(super) shape: i32,
    /// Events from one state to the next.
    pub(super) every: u64,
    pub(super) write: fn(&A) -> Result<String, serde_json::Error>,
    pub(super) read: fn(&str) -> Result<A, serde_json::Error>,
}

impl<A: Serialize + DeserializeOwned> States<A> {
    /// A state is kept whenever a save passes a multiple of `every` events; at least 1.
    ///
    /// Raise `shape` with every change of `apply` and of the fields of the state. States of another shape are not looked at, so programs with
    /// the former and the present shape can run side by side. A forgotten change is found by `testing::assert_shape`.
    pub const fn new(shape: u16, every: u32) -> Self {
        let every = if every == 0 { 1 } else { every };
        Self {
            shape: shape as i32,
            every: every as u64,
            write: |state| serde_json::to_string(state),
            read: |text| serde_json::from_str(text),
        }
    }
}

impl<A> States<A> {
    /// Whether a save from one version to another keeps a state.
    pub(super) fn are_due(&self, from: u64, to: u64) -> bool {
        from / self.every < to / self.every
    }
}

impl<A> fmt::Debug for States<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("shape", &self.shape).field("every", &self.every).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_due_where_a_multiple_is_passed() {
        let states = States::<Vec<i64>>::new(1, 10);
        for (from, to, are_due) in [(0, 9, false), (0, 10, true), (9, 10, true), (10, 11, false), (10, 19, false), (15, 45, true)] {
            assert_eq!(states.are_due(from, to), are_due, "{from} to {to}");
        }
    }
}
