//! Classification: from the status of an answer to a verdict. Pure, one table. `failure` classifies failures of the connection.

use std::time::Duration;

use super::answers::Answers;
use crate::domain::{Reason, Verdict};

/// The part of the table that the configuration may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub answers: Answers,
    /// Refusals of one event (4xx) are tried again instead of becoming dead letters at once.
    pub retry_client_errors: bool,
}

/// The head of an answer, and what its body said.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// The beginning of the body, for display.
    pub excerpt: String,
    pub retry_after: Option<Duration>,
    /// Where a redirect points to; only the host, because the rest may be secret.
    pub location_host: Option<String>,
}

/// The verdict for a complete answer.
pub fn answered(answer: Answer, rules: &Rules) -> Verdict {
    let Answer { status, excerpt, retry_after, location_host } = answer;
    let refused = |reason, excerpt| match rules.retry_client_errors {
        true => Verdict::retry(reason, excerpt),
        false => Verdict::permanent(reason, excerpt),
    };
    let verdict = match status {
        200..=299 => Verdict::delivered(),
        300..=399 => Verdict::handler_fault(Reason::Redirected, redirect_text(location_host)),
        401 | 403 | 407 => Verdict::handler_fault(Reason::Unauthorized, excerpt),
        404 => Verdict::handler_fault(Reason::NotFound, excerpt),
        410 => Verdict::handler_fault(Reason::Gone, excerpt),
        408 | 421 | 423 | 425 => Verdict::retry(Reason::ClientError, excerpt),
        409 => Verdict::retry(Reason::ClientError, excerpt),
        413 => refused(Reason::TooLarge, excerpt),
        429 => Verdict::back_pressure(Reason::Throttled, retry_after, excerpt),
        400..=499 => refused(Reason::ClientError, excerpt),
        503 if retry_after.is_some() => Verdict::back_pressure(Reason::Throttled, retry_after, excerpt),
        500..=599 => Verdict::retry(Reason::ServerError, excerpt),
        // 1xx as the last word, and numbers that HTTP does not define.
        _ => Verdict::retry(Reason::InvalidAnswer, format!("the receiver answered with status {status}")).ambiguous(),
    };
    rules.answers.verdict(status, verdict.with_status(status).not_before(retry_after))
}

fn redirect_text(host: Option<String>) -> String {
    match host {
        Some(host) => format!("redirects to {host}; redirects are not followed, change the url"),
        None => "redirects without saying where; redirects are not followed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome::*;

    fn at(status: u16, rules: Rules) -> Verdict {
        answered(Answer { status, excerpt: "said".to_owned(), ..Answer::default() }, &rules)
    }

    #[test]
    fn every_status_has_one_meaning() {
        for status in 100..1000 {
            let want = match status {
                200..=299 => (Delivered, Reason::Ok),
                300..=399 => (HandlerFault, Reason::Redirected),
                401 | 403 | 407 => (HandlerFault, Reason::Unauthorized),
                404 => (HandlerFault, Reason::NotFound),
                410 => (HandlerFault, Reason::Gone),
                408 | 409 | 421 | 423 | 425 => (Retry, Reason::ClientError),
                413 => (Permanent, Reason::TooLarge),
                429 => (BackPressure, Reason::Throttled),
                400..=499 => (Permanent, Reason::ClientError),
                500..=599 => (Retry, Reason::ServerError),
                _ => (Retry, Reason::InvalidAnswer),
            };
            let verdict = at(status, Rules::default());
            assert_eq!((verdict.outcome, verdict.reason), want, "{status}");
            assert_eq!(verdict.status, Some(status));
            assert_eq!(verdict.ambiguous, verdict.reason == Reason::InvalidAnswer, "{status}");
        }
    }

    #[test]
    fn client_errors_are_retried_on_request_and_nothing_else_changes() {
        let rules = Rules { retry_client_errors: true, ..Rules::default() };
        for (status, want) in [
            (400, Retry),
            (405, Retry),
            (413, Retry),
            (422, Retry),
            (418, Retry),
            (401, HandlerFault),
            (404, HandlerFault),
            (429, BackPressure),
        ] {
            assert_eq!(at(status, rules.clone()).outcome, want, "{status}");
        }
        assert_eq!(at(413, rules).reason, Reason::TooLarge);
    }

    #[test]
    fn a_conflict_is_a_duplicate_on_request() {
        let mut rules = Rules::default();
        rules.answers.set(409, Duplicate);
        assert_eq!(at(409, rules).outcome, Duplicate);
        assert_eq!(at(409, Rules::default()).outcome, Retry);
    }

    #[test]
    fn retry_after_makes_back_pressure_of_503_and_is_passed_on_by_the_others() {
        let after = Some(Duration::from_secs(7));
        for (status, want) in [(429, BackPressure), (503, BackPressure), (500, Retry), (502, Retry)] {
            let verdict = answered(Answer { status, retry_after: after, ..Answer::default() }, &Rules::default());
            assert_eq!((verdict.outcome, verdict.retry_after), (want, after), "{status}");
        }
        assert_eq!(at(503, Rules::default()).outcome, Retry);
    }
}
