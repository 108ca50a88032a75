//! Alerts: one instance at a time looks for what a human must know of and tells the channels, again until it is over.
//! What was told is stored, so the next owner neither forgets nor floods. Reading order: `watch` (the loop), `looking` (what is
//! observed), `telling` (what each channel is told). The rules are in `domain::alerts`.

mod looking;
mod telling;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::channels::{Channel, Heartbeat};
use crate::config::{self, ChannelConfig};
use crate::telemetry::{Health, RelayMetrics};

/// What the alerts of a relay need beside the database.
#[derive(Clone)]
pub struct AlertSetup {
    pub config: config::Alerts,
    pub channels: Vec<(ChannelConfig, Arc<dyn Channel>)>,
    pub heartbeat: Option<Arc<Heartbeat>>,
    pub signals: AlertSignals,
}

/// What the store cannot tell: other parts of the process report it here.
#[derive(Debug, Clone, Default)]
pub struct AlertSignals(Arc<Mutex<Option<String>>>);

impl AlertSignals {
    /// A new configuration was refused, and why; free of secrets.
    pub fn reload_failed(&self, why: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.into());
    }

    /// A new configuration was taken.
    pub fn reload_succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn refused_reload(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whose alerts they are.
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
