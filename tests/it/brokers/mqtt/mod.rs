//! The kind `mqtt` against mosquitto, read by paho.

mod answers;
mod limits;
mod outages;
mod secure;
mod server;
mod what_arrives;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use outboxd::domain::{Notification, Verdict};
use outboxd::handlers::{Built, Handler, kind};
use outboxd::relay::attempt;

use crate::conformance::{build, numbered};

pub use server::Mosquitto;

/// Longer than any bound of the handler itself.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A handler with these settings of the kind.
fn handler(settings: &str) -> Arc<dyn Handler> {
    match build(kind("mqtt").expect("it is compiled in"), settings) {
        Built::Handler(handler) => handler,
        Built::Function(_) | Built::Projection(_) | Built::Publisher => panic!("the kind is no function"),
    }
}

async fn deliver(handler: &Arc<dyn Handler>, event: &Notification) -> Verdict {
    attempt(&**handler, event, TIMEOUT).await
}

/// So many events at once, each of a key of its own.
async fn deliver_many(handler: &Arc<dyn Handler>, count: u64) -> Vec<Verdict> {
    let events: Vec<_> = (0..count).map(|number| numbered(&number.to_string(), number)).collect();
    join_all(events.iter().map(|event| deliver(handler, event))).await
}
