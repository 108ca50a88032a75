//! `log`: alerts as lines of the relay's own log. Always present, so that an alert is reported somewhere whatever else fails.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::{error, info, warn};

use super::wording::{describe_change, headline};
use super::{Channel, ChannelKind, SendFailure};
use crate::domain::alerts::{Change, Notice, Notices, Severity};

pub const KIND: ChannelKind = ChannelKind {
    name: "log",
    summary: "write alerts to the log; always active, also without configuration",
    fields: &[],
    example: include_str!("../../config/examples/alerts-log.toml"),
    build: |_| Some(Arc::new(Log)),
};

/// The log of this process.
pub struct Log;

impl Channel for Log {
    fn send<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>> {
        notices.notices.iter().for_each(|notice| tell(&notices.relay, notice));
        Box::pin(async { Ok(()) })
    }
}

fn tell(relay: &str, notice: &Notice) {
    let alert = &notice.alert;
    let (key, what, look) = (alert.key(), headline(relay, alert), alert.command());
    let state = describe_change(notice.change);
    let (since, count) = (alert.started_at, alert.count);
    let sample = alert.sample.as_ref().map(|sample| sample.event.to_string());
    match (notice.change, alert.severity) {
        (Change::Resolved | Change::Acknowledged, _) => info!(alert = key, what, %since, state, "alert"),
        (_, Severity::Critical) => error!(alert = key, what, %since, count, sample, look, state, "alert"),
        (_, Severity::Warning) => warn!(alert = key, what, %since, count, sample, look, state, "alert"),
        (_, Severity::Info) => info!(alert = key, what, %since, count, sample, look, state, "alert"),
    }
}
