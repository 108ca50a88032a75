//! A reload, requested: what to change, and the handle by which the rest of the process requests it. Reads no configuration;
//! `app::reload` compares the old one with the new one and hands over the difference.

use tokio::sync::{mpsc, oneshot, watch};

use super::{HandlerSetup, RelayError};
use crate::config;
use crate::telemetry::RelayMetrics;

/// The difference to apply. Everything that is not named here stays untouched.
pub struct Change {
    /// Handlers that are new, or take the place of the one of their name.
    pub put: Vec<HandlerSetup>,
    /// Handlers that are served no longer; their subscriptions stay in the database.
    pub removed: Vec<String>,
    pub relay: config::Relay,
    pub outbox: config::Outbox,
}

/// A change on its way to the supervisor.
pub(super) struct Request {
    pub change: Change,
    pub answer: oneshot::Sender<Result<(), RelayError>>,
}

/// Where the supervisor takes requests from, and where it reports that an operator requested a reload.
pub(super) struct Desk {
    pub requests: mpsc::Receiver<Request>,
    pub asked: watch::Sender<i32>,
}

impl Desk {
    /// Passes on the number of the reload that an operator has requested in the database, if it is new.
    pub fn tell_wish(&self, wish: i32) {
        self.asked.send_if_modified(|known| std::mem::replace(known, wish) != wish);
    }
}

/// Talks to a relay that runs, or is about to.
pub struct RelayHandle {
    instance: String,
    metrics: RelayMetrics,
    requests: mpsc::Sender<Request>,
    asked: watch::Receiver<i32>,
}

pub(super) fn desk(instance: String, metrics: RelayMetrics) -> (Desk, RelayHandle) {
    let (sender, requests) = mpsc::channel(1);
    let (asked, receiver) = watch::channel(0);
    (Desk { requests, asked }, RelayHandle { instance, metrics, requests: sender, asked: receiver })
}

impl RelayHandle {
    /// The relay's name in the database.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Carries a change out. `Err`: nothing has changed. Deliveries in flight in a handler that changes finish with the old handler.
    pub async fn apply(&self, change: Change) -> Result<(), RelayError> {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request { change, answer }).await.is_err() {
            return Err(RelayError::Stopping);
        }
        answered.await.unwrap_or(Err(RelayError::Stopping))
    }

    /// Counts a reload: `applied`, `unchanged` or `refused`.
    pub fn reloaded(&self, outcome: &'static str) {
        self.metrics.reloaded(outcome);
    }

    /// Tells of each adopted table whether it is broken.
    pub fn adopted(&self, tables: impl Iterator<Item = (String, bool)>) {
        self.metrics.adopted(tables);
    }

    /// Waits until an operator requests a reload through the database, and returns the number of the request.
    pub async fn asked(&mut self) -> i32 {
        if self.asked.changed().await.is_err() {
            std::future::pending::<()>().await; // the relay is stopping; another task reports it
        }
        *self.asked.borrow_and_update()
    }
}
