//! Corrections: an operator edits the payload of a dead letter, and outboxd records the result as a new event. The new event is for
//! the handler of the dead letter only, because the other handlers have had the original. Headers carry both facts.

use super::Notification;

/// Header of a correction: the id of the event that it corrects.
pub const CORRECTS: &str = "outboxd-corrects";
/// Header of a correction: the one handler that receives it.
pub const ONLY_FOR: &str = "outboxd-only-for";

impl Notification {
    /// Whether a handler of this name receives the event. Every event is for all handlers that want it, except a correction.
    pub fn is_for(&self, handler: &str) -> bool {
        // Almost no event has the header, and then nothing is parsed. An escape may hide the name.
        if !self.headers.contains(ONLY_FOR) && !self.headers.contains('\\') {
            return true;
        }
        self.header(ONLY_FOR).is_none_or(|only| only == handler)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_is_for_one_handler_and_every_other_event_is_for_all() {
        for (headers, want) in [
            ("{}", true),
            (r#"{"tenant":"a\\b"}"#, true),
            (r#"{"outboxd-only-for":"billing"}"#, true),
            (r#"{"outboxd-only-for":"mail","tenant":"billing"}"#, false),
            (r#"{"outboxd\u002donly-for":"mail"}"#, false),
            (r#"{"outboxd-only-for":["mail"]}"#, true),
            (r#"{"note":"outboxd-only-for"}"#, true),
        ] {
            let notification = Notification { headers: headers.to_owned(), ..Notification::sample("t", "{}") };
            assert_eq!(notification.is_for("billing"), want, "{headers}");
        }
    }
}
