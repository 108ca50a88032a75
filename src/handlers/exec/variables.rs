//! Environment variables: the facts of an event that a process receives. Never the payload, which can be larger than an
//! environment.

use super::super::envelope::facts;
use crate::domain::{Notification, Reason, Verdict};
use crate::telemetry::TraceContext;

/// All values of one event together. Linux takes 128 KiB for one variable; the rest belongs to the configured ones.
const MOST_BYTES: usize = 64 * 1024;

/// The variables of this event: its facts as `OUTBOXD_EVENT_ID` and so on, the attempt, and the trace context by the names that
/// OpenTelemetry reads. The verdict says why no environment can hold them.
pub fn variables(notification: &Notification) -> Result<Vec<(String, String)>, Verdict> {
    let trace = TraceContext::of(&notification.headers);
    let mut variables: Vec<(String, String)> =
        facts(notification, notification.id.to_string()).map(|(name, value)| (variable_name(name), value.into_owned())).collect();
    variables.push(("OUTBOXD_ATTEMPT".to_owned(), notification.attempt.to_string()));
    for (name, is_so) in [("OUTBOXD_REPLAY", notification.is_replay), ("OUTBOXD_TEST", notification.is_test)] {
        variables.extend(is_so.then(|| (name.to_owned(), "true".to_owned())));
    }
    for (name, value) in [("TRACEPARENT", trace.parent()), ("TRACESTATE", trace.state())] {
        variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    check(&variables)?;
    Ok(variables)
}

/// `event-id` is `OUTBOXD_EVENT_ID`.
fn variable_name(fact: &str) -> String {
    format!("OUTBOXD_{}", fact.to_ascii_uppercase().replace('-', "_"))
}

fn check(variables: &[(String, String)]) -> Result<(), Verdict> {
    let unaddressable = |detail| Err(Verdict::permanent(Reason::Unaddressable, detail));
    let bytes: usize = variables.iter().map(|(_, value)| value.len()).sum();
    if bytes > MOST_BYTES {
        return unaddressable(format!("its type, key and aggregate have {bytes} bytes, a program is given at most {MOST_BYTES}"));
    }
    match variables.iter().find(|(_, value)| value.contains('\0')) {
        Some((name, _)) => unaddressable(format!("its value for {name} has a NUL character, which no variable can have")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_learns_the_facts_of_its_event() {
        let event = Notification {
            headers: r#"{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#.to_owned(),
            aggregate_version: Some(3),
            attempt: 2,
            is_test: true,
            ..Notification::sample("order.placed", "{}")
        };
        let variables = variables(&event).expect("they fit");
        let told: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            told.join(" "),
            "OUTBOXD_EVENT_ID=018f0000-0000-7000-8000-000000000001 OUTBOXD_EVENT_TYPE=order.placed \
             OUTBOXD_EVENT_TIME=2023-11-14T22:13:20.000000Z OUTBOXD_EVENT_KEY=order/42 OUTBOXD_AGGREGATE_TYPE=order \
             OUTBOXD_AGGREGATE_ID=42 OUTBOXD_AGGREGATE_VERSION=3 OUTBOXD_ATTEMPT=2 OUTBOXD_TEST=true \
             TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        );
    }

    #[test]
    fn what_no_environment_can_hold_is_the_fault_of_the_event() {
        for id in ["a\0b".to_owned(), "x".repeat(MOST_BYTES)] {
            let event = Notification { aggregate_id: Some(id), ..Notification::sample("order.placed", "{}") };
            let verdict = variables(&event).expect_err("it does not fit");
            assert_eq!((verdict.outcome, verdict.reason), (crate::domain::Outcome::Permanent, Reason::Unaddressable));
        }
    }
}
