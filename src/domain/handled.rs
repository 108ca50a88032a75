//! How far a handler is with an event, and whether waiting longer can change the answer.

/// How far a handler is with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its effect is there: the delivery is recorded, or the position has passed the event and nothing is owed.
    Handled,
    /// It does not want the event.
    Unwanted,
    /// A dead letter, or given up: an operator decides what becomes of it.
    Stopped,
    /// Not yet.
    Pending,
}

impl Stage {
    /// From what is recorded. `state`: of the delivery, if there is one; `is_wanted`: the filter of the handler takes the event;
    /// `has_passed`: its position has.
    pub fn judge(state: Option<&str>, is_wanted: bool, has_passed: bool) -> Self {
        match state {
            Some("delivered") => Self::Handled,
            None if !is_wanted => Self::Unwanted,
            None if has_passed => Self::Handled,
            Some("dead" | "discarded") => Self::Stopped,
            _ => Self::Pending,
        }
    }

    /// There is nothing to wait for, and nothing went wrong.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Handled | Self::Unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handled_is_what_is_recorded_or_passed_with_nothing_owed() {
        for (state, is_wanted, has_passed, want) in [
            (None, true, false, Stage::Pending),
            (None, true, true, Stage::Handled),
            (None, false, false, Stage::Unwanted),
            (Some("delivered"), true, false, Stage::Handled),
            // The position passes what has a row of its own.
            (Some("retrying"), true, true, Stage::Pending),
            (Some("waiting"), true, true, Stage::Pending),
            (Some("dead"), true, true, Stage::Stopped),
            (Some("discarded"), true, true, Stage::Stopped),
        ] {
            assert_eq!(Stage::judge(state, is_wanted, has_passed), want, "{state:?} {is_wanted} {has_passed}");
        }
    }
}
