//! Alerts: what fires, how each channel is doing, and saying that one knows.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;

use super::{Caller, OperationError, RefusalKind};
use crate::channels;
use crate::domain::alerts::{Alert, AlertStatus};
use crate::store::alerts::{self, ChannelRow};

/// An alert with the words for it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AlertView {
    #[serde(flatten)]
    pub alert: Alert,
    /// Its name: `dead_letters/billing`.
    pub key: String,
    pub summary: String,
    /// The command to run next.
    pub command: String,
}

/// The alerts that fire, and the state of each channel.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AlertList {
    pub alerts: Vec<AlertView>,
    pub channels: Vec<ChannelRow>,
}

/// The result of an act on an alert.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AlertChange {
    pub changed: bool,
    pub alert: AlertView,
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        Self { key: alert.key(), summary: channels::summary(&alert), command: alert.command(), alert }
    }
}

impl AlertChange {
    /// Whether the alert is as the caller wanted it, now or before.
    pub fn is_as_wanted(&self) -> bool {
        self.changed || self.alert.alert.status == AlertStatus::Acknowledged
    }
}

/// The alerts that fire, or all that are remembered.
pub async fn list(pool: &PgPool, all: bool) -> Result<AlertList, OperationError> {
    let (mut found, channels) = (alerts::read(pool).await?, alerts::read_channels(pool).await?);
    found.retain(|alert| all || alert.status.is_active());
    Ok(AlertList { alerts: found.into_iter().map(AlertView::from).collect(), channels })
}

/// Acknowledges an alert: it is not repeated until it gets worse or is over.
pub async fn acknowledge(pool: &PgPool, caller: &Caller, key: &str, reason: Option<&str>) -> Result<AlertChange, OperationError> {
    let changed = alerts::acknowledge(pool, key, caller.actor(), reason).await?;
    Ok(AlertChange { changed, alert: find(pool, key).await? })
}

/// Silences an alert for so long; none: it is told again.
pub async fn snooze(
    pool: &PgPool,
    caller: &Caller,
    key: &str,
    time: Duration,
    reason: Option<&str>,
) -> Result<AlertChange, OperationError> {
    let changed = alerts::snooze(pool, key, time, caller.actor(), reason).await?;
    Ok(AlertChange { changed, alert: find(pool, key).await? })
}

async fn find(pool: &PgPool, key: &str) -> Result<AlertView, OperationError> {
    let found = alerts::read(pool).await?.into_iter().find(|alert| alert.key() == key);
    found.map(AlertView::from).ok_or_else(|| {
        let text = format!("there is no alert \"{key}\"; `outboxd alerts list --all` shows all");
        OperationError::refused(RefusalKind::UnknownAlert, text, "outboxd alerts list --all")
    })
}
