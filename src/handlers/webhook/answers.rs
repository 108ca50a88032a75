//! Answers as configured: `answers = { "404" = "permanent", "4xx" = "retry" }`. Pure. A single status takes precedence over its
//! class, and both over the table of the kind.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{Outcome, Reason, Verdict};

/// The outcomes that an answer can be configured as.
const OUTCOMES: &[Outcome] = &Outcome::ALL;

/// The table of a handler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    exact: BTreeMap<u16, Outcome>,
    /// By the first digit.
    hundreds: BTreeMap<u16, Outcome>,
}

/// The mistake in an entry, for its key.
pub type Flaw = (String, String);

impl Answers {
    /// Reads the entries; every flaw is reported.
    pub fn read(entries: BTreeMap<String, String>) -> Result<Self, Vec<Flaw>> {
        let (mut answers, mut flaws) = (Self::default(), Vec::new());
        for (key, value) in entries {
            match (of_key(&key), of_value(&value)) {
                (Ok(Key::Status(status)), Ok(outcome)) => _ = answers.exact.insert(status, outcome),
                (Ok(Key::Hundred(digit)), Ok(outcome)) => _ = answers.hundreds.insert(digit, outcome),
                (key_or_flaw, value_or_flaw) => {
                    flaws.extend(key_or_flaw.err().map(|flaw| (key.clone(), flaw)));
                    flaws.extend(value_or_flaw.err().map(|flaw| (key.clone(), flaw)));
                }
            }
        }
        if flaws.is_empty() { Ok(answers) } else { Err(flaws) }
    }

    /// Whether a status has an entry of its own.
    pub fn has(&self, status: u16) -> bool {
        self.exact.contains_key(&status)
    }

    pub fn set(&mut self, status: u16, outcome: Outcome) {
        self.exact.insert(status, outcome);
    }

    /// The verdict for an answer by this table. `usual`: that of the kind, which knows the reason.
    pub fn verdict(&self, status: u16, usual: Verdict) -> Verdict {
        // A hundred does not reach a receiver that asks for less: it would turn a busy hour into dead letters.
        let of_hundred = || self.hundreds.get(&(status / 100)).filter(|_| usual.outcome != Outcome::BackPressure);
        match self.exact.get(&status).or_else(of_hundred) {
            Some(outcome) => meant(*outcome, usual),
            None => usual,
        }
    }
}

enum Key {
    Status(u16),
    Hundred(u16),
}

fn of_key(key: &str) -> Result<Key, String> {
    let expected = "expected a status such as \"404\", or a hundred of them, \"3xx\", \"4xx\" or \"5xx\"";
    if let Ok(status) = key.parse::<u16>()
        && key.len() == 3
        && (200..=599).contains(&status)
    {
        return Ok(Key::Status(status));
    }
    match key {
        "3xx" | "4xx" | "5xx" => Ok(Key::Hundred(u16::from(key.as_bytes()[0] - b'0'))),
        "2xx" => Err("every success of a receiver cannot mean something else; name single ones, such as \"202\"".to_owned()),
        _ => Err(format!("is no status, {expected}")),
    }
}

fn of_value(value: &str) -> Result<Outcome, String> {
    let known = || OUTCOMES.iter().map(|outcome| format!("\"{outcome}\"")).collect::<Vec<_>>().join(", ");
    OUTCOMES
        .iter()
        .copied()
        .find(|outcome| outcome.as_str() == value)
        .ok_or_else(|| format!("got {value:?}, expected one of {}", known()))
}

fn meant(outcome: Outcome, usual: Verdict) -> Verdict {
    // A success that is none has no reason of its own in the table of the kind.
    let reason = if usual.is_delivered() { Reason::Refused } else { usual.reason };
    let Verdict { detail, retry_after, ambiguous, .. } = usual;
    let verdict = match outcome {
        Outcome::Delivered => Verdict::delivered(),
        Outcome::Duplicate => Verdict::duplicate(),
        Outcome::Retry => Verdict::retry(reason, detail),
        Outcome::BackPressure => Verdict::back_pressure(Reason::Throttled, retry_after.or(Some(Duration::from_secs(1))), detail),
        Outcome::HandlerFault => Verdict::handler_fault(reason, detail),
        Outcome::Permanent => Verdict::permanent(reason, detail),
    };
    Verdict { ambiguous: ambiguous && !verdict.is_delivered(), status: usual.status, retry_after, ..verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<Answers, Vec<Flaw>> {
        Answers::read(entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn usual(outcome: Outcome, status: u16) -> Verdict {
        let verdict = Verdict::retry(Reason::ClientError, "said").with_status(status);
        Verdict { outcome, ..verdict }
    }

    #[test]
    fn a_status_counts_before_its_hundred_and_both_before_the_usual() {
        let answers = read(&[("404", "permanent"), ("4xx", "retry"), ("409", "duplicate"), ("202", "retry")]).expect("valid");
        for (status, usually, want) in [
            (404, Outcome::HandlerFault, Outcome::Permanent),
            (401, Outcome::HandlerFault, Outcome::Retry),
            (422, Outcome::Permanent, Outcome::Retry),
            (429, Outcome::BackPressure, Outcome::BackPressure),
            (409, Outcome::Retry, Outcome::Duplicate),
            (202, Outcome::Delivered, Outcome::Retry),
            (500, Outcome::Retry, Outcome::Retry),
        ] {
            let verdict = answers.verdict(status, usual(usually, status));
            assert_eq!((verdict.outcome, verdict.status), (want, Some(status)), "{status}");
        }
    }

    #[test]
    fn a_wrong_entry_is_told_by_its_key() {
        for (key, value, want) in [
            ("40x", "retry", "is no status, expected a status such as \"404\""),
            ("4XX", "retry", "is no status"),
            ("99", "retry", "is no status"),
            ("100", "retry", "is no status"),
            ("0404", "retry", "is no status"),
            ("2xx", "permanent", "every success of a receiver cannot mean something else"),
            ("404", "dead", "got \"dead\", expected one of \"delivered\", \"duplicate\", \"retry\""),
        ] {
            let flaws = read(&[(key, value)]).expect_err("it is wrong");
            assert_eq!(flaws.len(), 1, "{key}");
            assert!(flaws[0].0 == key && flaws[0].1.starts_with(want), "{key}: {}", flaws[0].1);
        }
    }
}
