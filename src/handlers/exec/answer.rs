//! Answers of a worker: one line of JSON about one event, in the terms of `domain::outcome`.

use std::time::Duration;

use serde::Deserialize;

use super::super::redaction::Redaction;
use super::output::shorten;
use crate::domain::{Outcome, Reason, Verdict};

/// An answer as it came.
#[derive(Debug, Deserialize)]
struct Line {
    id: String,
    status: String,
    reason: Option<String>,
    detail: Option<String>,
    /// Seconds.
    retry_after: Option<f64>,
}

/// The content of one line.
#[derive(Debug, PartialEq)]
pub enum Answer {
    About(Verdict),
    /// It is about an event that the worker does not have.
    Stray(String),
    /// It is no answer; says why.
    Garbage(String),
}

/// Reasons that only the relay can have.
const OURS: &[Reason] = &[
    Reason::Ok,
    Reason::Duplicate,
    Reason::Panicked,
    Reason::Crashed,
    Reason::Exhausted,
    Reason::Expired,
    Reason::Operator,
    Reason::Unreadable,
    Reason::Contract,
    Reason::Unstorable,
];

/// Reads a line as an answer about the event of this id.
pub fn read(line: &[u8], id: &str, redaction: &Redaction) -> Answer {
    let shown = || shorten(&redaction.excerpt(line, false));
    let answer: Line = match serde_json::from_slice(line) {
        Ok(answer) => answer,
        Err(error) => {
            return Answer::Garbage(format!(
                "the worker wrote no answer ({error}); standard output is for answers only: {}",
                shown()
            ));
        }
    };
    if !answer.id.eq_ignore_ascii_case(id) {
        return Answer::Stray(redaction.excerpt(answer.id.as_bytes(), false));
    }
    let Some(outcome) = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == answer.status) else {
        let known = Outcome::ALL.map(Outcome::as_str).join(", ");
        return Answer::Garbage(format!("the worker answered with a status that is none of {known}: {}", shown()));
    };
    let Ok(retry_after) = answer.retry_after.map(Duration::try_from_secs_f64).transpose() else {
        return Answer::Garbage(format!("the worker answered with a retry_after that is no number of seconds: {}", shown()));
    };
    let detail = shorten(&redaction.excerpt(answer.detail.unwrap_or_default().as_bytes(), false));
    Answer::About(verdict(outcome, answer.reason.as_deref(), detail).not_before(retry_after))
}

fn verdict(outcome: Outcome, reason: Option<&str>, detail: String) -> Verdict {
    let named = Reason::ALL.iter().copied().find(|known| Some(known.as_str()) == reason && !OURS.contains(known));
    match outcome {
        Outcome::Delivered => Verdict::delivered(),
        Outcome::Duplicate => Verdict::duplicate(),
        Outcome::Retry => Verdict::retry(named.unwrap_or(Reason::Refused), detail),
        Outcome::BackPressure => Verdict::back_pressure(named.unwrap_or(Reason::Throttled), None, detail),
        Outcome::HandlerFault => Verdict::handler_fault(named.unwrap_or(Reason::Misconfigured), detail),
        Outcome::Permanent => Verdict::permanent(named.unwrap_or(Reason::Refused), detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    const ID: &str = "018f0000-0000-7000-8000-00000000000a";

    fn answer(rest: &str) -> Answer {
        let line = format!("{{\"id\":\"{}\",{rest}}}", ID.to_uppercase());
        read(line.as_bytes(), ID, &Redaction::new(&[Secret::new("hunter2")]))
    }

    fn about(rest: &str) -> Verdict {
        match answer(rest) {
            Answer::About(verdict) => verdict,
            other => panic!("{rest}: {other:?}"),
        }
    }

    #[test]
    fn every_outcome_can_be_said() {
        for (outcome, reason) in Outcome::ALL.into_iter().zip([
            Reason::Ok,
            Reason::Duplicate,
            Reason::Refused,
            Reason::Throttled,
            Reason::Misconfigured,
            Reason::Refused,
        ]) {
            let verdict = about(&format!("\"status\":\"{outcome}\",\"more\":1"));
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (outcome, reason, false));
        }
    }

    #[test]
    fn a_worker_may_say_why_and_when_and_no_secret() {
        let verdict = about("\"status\":\"retry\",\"reason\":\"dns\",\"detail\":\"hunter2\\nx\",\"retry_after\":1.5");
        assert_eq!((verdict.reason, verdict.retry_after), (Reason::Dns, Some(Duration::from_millis(1_500))));
        assert_eq!(verdict.detail, "*** x");
    }

    #[test]
    fn reasons_of_the_relay_and_unknown_ones_are_not_taken() {
        for reason in ["ok", "exhausted", "operator", "moon"] {
            assert_eq!(about(&format!("\"status\":\"retry\",\"reason\":\"{reason}\"")).reason, Reason::Refused, "{reason}");
        }
        assert_eq!(about("\"status\":\"delivered\",\"reason\":\"dns\"").reason, Reason::Ok);
    }

    #[test]
    fn what_is_no_answer_says_why_and_no_secret() {
        for rest in ["\"status\":\"ok\"", "\"status\":7", "\"stat\":\"retry\"", "\"status\":\"retry\",\"retry_after\":-1"] {
            let Answer::Garbage(why) = answer(&format!("{rest},\"x\":\"hunter2\"")) else { panic!("{rest}") };
            assert!(why.starts_with("the worker ") && why.contains("***") && !why.contains("hunter2"), "{why}");
        }
        assert!(matches!(read(b"ready", ID, &Redaction::default()), Answer::Garbage(_)));
        assert_eq!(read(b"{\"id\":\"x\",\"status\":\"moon\"}", ID, &Redaction::default()), Answer::Stray("x".to_owned()));
    }
}
