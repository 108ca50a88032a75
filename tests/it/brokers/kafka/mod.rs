//! The kind `kafka`: `faults` injects errors of the broker into the mock cluster of librdkafka, `broker` and `security` have a real
//! one. Everything that was published is read back by confluent-kafka.

mod broker;
mod faults;
mod security;

use std::sync::Arc;

use outboxd::domain::Verdict;
use outboxd::handlers::{Built, Handler, kind};
use serde_json::Value;

use crate::conformance::build;

/// A handler with these settings.
fn handler(settings: &str) -> Arc<dyn Handler> {
    match build(kind("kafka").expect("it is built in"), settings) {
        Built::Handler(handler) => handler,
        Built::Function(_) | Built::Projection(_) | Built::Publisher => panic!("kafka is no function"),
    }
}

/// Outcome, reason and doubt, to compare.
fn told(verdict: &Verdict) -> (&'static str, &'static str, bool) {
    (verdict.outcome.as_str(), verdict.reason.as_str(), verdict.ambiguous)
}

fn text<'v>(record: &'v Value, name: &str) -> &'v str {
    record[name].as_str().unwrap_or_default()
}

fn id(record: &Value) -> &str {
    text(&record["headers"], "event-id")
}
