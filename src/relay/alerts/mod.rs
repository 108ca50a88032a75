//! Alerts: one instance at a time watches for conditions that an operator must know of, and sends them to the channels.
//!
//! Every `alerts.interval` the watch measures what `outboxd status` measures (`looking`) and steps each alert by a pure rule
//! (`domain::alerts::rules`). What each channel is sent follows from comparing the alert with what that channel was last sent
//! (`domain::alerts::notices`); `telling` carries it out, `watch` is the loop.
//!
//! - One owner: a lease row with its own epoch. Alerts, what channels were sent and how they are doing are written behind that
//!   fence. Acknowledgements by operators are single updates, kept apart by a lock of some milliseconds.
//! - No transaction is open while a channel sends. The result is recorded at once. If the owner dies in between, the next owner
//!   sends the notice again, under an id that is a hash of the content.
//! - An owner that cannot be sure of its lease sends only what does no harm when it is sent twice: refreshes, and that the
//!   database is away, which only memory knows until the database is back.
//!
//! What was sent is stored, so the next owner neither forgets an alert nor sends all of them again.

mod looking;
mod telling;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::channels::{Channel, Heartbeat};
use crate::config::{self, ChannelConfig};
use crate::telemetry::{Health, RelayMetrics};

/// The parts that the alerts of a relay need beside the database.
#[derive(Clone)]
pub struct AlertSetup {
    pub config: config::Alerts,
    pub channels: Vec<(ChannelConfig, Arc<dyn Channel>)>,
    pub heartbeat: Option<Arc<Heartbeat>>,
    pub signals: AlertSignals,
}

/// Signals that the store does not know: other parts of the process report them here.
#[derive(Debug, Clone, Default)]
pub struct AlertSignals(Arc<Mutex<Signals>>);

#[derive(Debug, Default)]
struct Signals {
    refused_reload: Option<String>,
    /// Adopted tables that are broken, and what is wrong with each.
    adoptions: Vec<(String, String)>,
    /// Where clients stand that leave their cursors to the server; `None`: that could not be read.
    cursors: Option<Vec<CursorLag>>,
}

/// How far a client is behind, by a cursor that it has left to the server.
#[derive(Debug, Clone)]
pub struct CursorLag {
    pub client: String,
    pub name: String,
    /// Places of the feed behind the cursor.
    pub behind: u64,
    /// Age of the first event behind it.
    pub oldest: Option<Duration>,
}

impl AlertSignals {
    /// A new configuration was refused, and why; free of secrets.
    pub fn reload_failed(&self, why: impl Into<String>) {
        self.signals().refused_reload = Some(why.into());
    }

    /// A new configuration was taken.
    pub fn reload_succeeded(&self) {
        self.signals().refused_reload = None;
    }

    /// Adopted tables that are broken: their names, and what is wrong. Those that are not named are well.
    pub fn adoptions(&self, broken: Vec<(String, String)>) {
        self.signals().adoptions = broken;
    }

    /// Where clients stand that leave their cursors to the server. `None`: unknown now, which ends no alert.
    pub fn cursors(&self, lags: Option<Vec<CursorLag>>) {
        self.signals().cursors = lags;
    }

    fn lags(&self) -> Option<Vec<CursorLag>> {
        self.signals().cursors.clone()
    }

    fn refused_reload(&self) -> Option<String> {
        self.signals().refused_reload.clone()
    }

    fn broken_adoptions(&self) -> Vec<(String, String)> {
        self.signals().adoptions.clone()
    }

    fn signals(&self) -> MutexGuard<'_, Signals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The instance that the alerts belong to.
pub(super) struct AlertContext {
    pub pool: PgPool,
    pub instance: String,
    /// Names the deployment.
    pub relay: String,
    pub lease: Duration,
    pub health: Arc<Health>,
    pub metrics: RelayMetrics,
}

/// Looks after the alerts until `stop`, whenever this instance is the one to do so.
pub(super) async fn serve(context: AlertContext, setup: AlertSetup, stop: CancellationToken) {
    watch::Watch::new(context, setup).run(stop).await;
}
