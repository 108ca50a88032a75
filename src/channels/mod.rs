//! Channels: the code that sends alerts, one file per kind. A channel makes one try and returns the result. It never retries,
//! never decides which alert to send, and never shows a secret.

mod alertmanager;
mod heartbeat;
mod http;
mod log;
mod pagerduty;
mod slack;
mod smtp;
#[cfg(test)]
mod tests;
mod webhook;
mod wording;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::alerts::Notices;
use crate::settings::{Field, Section};

pub use heartbeat::Heartbeat;
pub use wording::{describe_change, headline, summary};

/// Takes alerts to operators.
pub trait Channel: Send + Sync + 'static {
    /// One try. The relay bounds its time; dropping the future must be safe.
    fn send<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>>;

    /// The receiver forgets an alert that is not refreshed within this time, and repeats alerts on its own.
    fn refresh(&self) -> Option<Duration> {
        None
    }

    /// What the receiver has of these alerts now, for the person who tries the channel. `None`: it cannot be asked.
    fn report<'a>(&'a self, _: &'a Notices) -> BoxFuture<'a, Result<Option<String>, SendFailure>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The receiver wants to know that an operator knows.
    fn wants_acknowledgements(&self) -> bool {
        false
    }

    /// The most alerts that one try may carry.
    fn most_alerts(&self) -> usize {
        50
    }
}

/// Why a try failed, for display; free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SendFailure {
    pub text: String,
    /// The receiver asks for so much time.
    pub retry_after: Option<Duration>,
    /// The same again will be refused again: an operator must change something.
    pub is_permanent: bool,
}

impl SendFailure {
    /// Worth another try.
    pub fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry_after: None, is_permanent: false }
    }

    /// Refused for good.
    pub fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry_after: None, is_permanent: true }
    }
}

/// One kind of channel: the only thing to add for a new one.
pub struct ChannelKind {
    /// `kind = "..."` in the configuration.
    pub name: &'static str,
    pub summary: &'static str,
    /// The settings of this kind, beside those every channel has.
    pub fields: &'static [Field],
    /// A complete `[[alerts.channels]]` entry that works as it stands (its secrets and addresses aside).
    pub example: &'static str,
    /// Builds from checked settings. `None`: mistakes were reported to the section.
    pub build: fn(&Section<'_>) -> Option<Arc<dyn Channel>>,
}

/// Every kind this binary has. Help, documentation, configuration check and the tests that all must pass follow from the list.
pub const CHANNELS: &[ChannelKind] = &[alertmanager::KIND, pagerduty::KIND, slack::KIND, smtp::KIND, webhook::KIND, log::KIND];

/// The kind with this name.
pub fn channel_kind(name: &str) -> Option<&'static ChannelKind> {
    CHANNELS.iter().find(|kind| kind.name == name)
}

/// What there is without any configuration: lines in the log.
pub fn log_channel() -> Arc<dyn Channel> {
    Arc::new(log::Log)
}
