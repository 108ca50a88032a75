//! The kind `rabbitmq` against a real RabbitMQ, set up and read back through pika.

mod alarms;
mod answers;
mod envelopes;
mod networks;
mod secure;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use outboxd::domain::{Notification, Outcome, Reason, Verdict};
use outboxd::handlers::{Built, Handler};
use outboxd::relay::attempt;
use serde_json::{Value, json};

use self::server::{Server, unique};
use crate::conformance::build_entry;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A topic exchange with one queue, which takes the keys of a pattern.
struct Place {
    exchange: String,
    queue: String,
}

impl Place {
    async fn make(server: &Server, pattern: &str, arguments: Value) -> Self {
        let place = Self { exchange: unique("exchange"), queue: unique("queue") };
        server.steps(json!([["exchange", place.exchange, "topic"]])).await;
        place.bind(server, pattern, arguments).await;
        place
    }

    async fn bind(&self, server: &Server, pattern: &str, arguments: Value) {
        let steps = json!([["queue", self.queue, arguments], ["bind", self.queue, self.exchange, pattern]]);
        server.steps(steps).await;
    }

    /// What the queue holds.
    async fn arrived(&self, server: &Server) -> Vec<Value> {
        server.steps(json!([["read", self.queue]])).await
    }

    fn settings(&self, url: &str) -> String {
        settings(url, &self.exchange)
    }
}

fn settings(url: &str, exchange: &str) -> String {
    format!("url = \"{url}\"\nexchange = \"{exchange}\"\n")
}

/// A handler with these settings.
fn handler(settings: &str) -> Arc<dyn Handler> {
    named("tried", settings)
}

fn named(name: &str, settings: &str) -> Arc<dyn Handler> {
    match build_entry(&format!("[[handlers]]\nname = \"{name}\"\nkind = \"rabbitmq\"\n{settings}")) {
        Built::Handler(handler) => handler,
        Built::Function(_) | Built::Projection(_) | Built::Publisher => panic!("a handler of this kind is no function"),
    }
}

async fn deliver(handler: &Arc<dyn Handler>, event: &Notification) -> Verdict {
    attempt(&**handler, event, TIMEOUT).await
}

fn meaning(verdict: &Verdict) -> (Outcome, Reason, bool) {
    (verdict.outcome, verdict.reason, verdict.ambiguous)
}
