//! `webhook`: posts each event to a URL, signed by the Standard Webhooks scheme, as plain JSON or as a CloudEvent.
//! Reading order: `settings`, `send` (one exchange), `batch` (several events in one), `body`, `signature`, `pool` and `connect`, then `classify` (what an answer means) and `egress`.
//! Never follows a redirect, never uses a proxy of the environment, never retries, never shows a secret.

mod answers;
mod batch;
mod body;
mod classify;
mod connect;
mod egress;
mod headers;
mod pool;
mod probe;
mod retry_after;
mod send;
mod settings;
mod signature;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::{BoxFuture, join_all};
use hyper::Uri;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use percent_encoding::percent_decode_str;
use url::{Position, Url};

use self::batch::{Batch, Doubts};
#[cfg(not(any(test, feature = "fuzzing")))]
use self::classify::Rules;
use self::connect::Connector;
use self::egress::{Egress, FilteringResolver};
use self::headers::OfEvent;
use self::pool::Pool;
use self::settings::Settings;
use super::cloud_event::CloudEvents;
use super::envelope::Format;
use super::redaction::Redaction;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};
use crate::settings::Section;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::classify::{Answer, Rules, answered};
pub use self::signature::{InvalidSecret, Signer, verify};
// What others that connect to something need, whomever they call.
pub(crate) use self::retry_after::parse as parse_retry_after;

pub const KIND: Kind = Kind {
    name: "webhook",
    summary: "post events to a URL, signed, as plain JSON or CloudEvents",
    fields: settings::FIELDS,
    example: include_str!("../../../config/examples/webhook.toml"),
    build,
};

fn build(section: &Section<'_>) -> Option<Built> {
    let settings = settings::read(section)?;
    let resolver = FilteringResolver::system(settings.egress);
    match Webhook::new(settings, resolver) {
        Some(webhook) => Some(Built::Handler(Arc::new(webhook))),
        None => {
            section.mistake("url", "got a host or path that no request can be made of");
            None
        }
    }
}

/// A receiver of events, and everything that can be prepared before the first of them.
struct Webhook {
    connector: Connector,
    pool: Pool,
    url: Url,
    /// Path and query, as a request line has them.
    path: Uri,
    /// The parts that every request carries.
    headers: HeaderMap,
    of_event: OfEvent,
    signer: Signer,
    format: Format,
    cloud_events: CloudEvents,
    rules: Rules,
    redaction: Redaction,
    egress: Egress,
    request_timeout: Duration,
    max_payload: usize,
    max_response: usize,
    /// `None`: each event in a request of its own.
    batch: Option<Batch>,
    doubts: Doubts,
}

impl Webhook {
    /// `None`: the URL is one that no request can be made of.
    fn new(settings: Settings, resolver: FilteringResolver) -> Option<Self> {
        let Settings { url, egress, connect_timeout, tls, .. } = settings;
        Some(Self {
            connector: Connector::new(&url, tls, egress, resolver, connect_timeout)?,
            pool: Pool::default(),
            path: url[Position::BeforePath..Position::AfterQuery].parse().ok()?,
            headers: every_request(&url, settings.headers.constant)?,
            of_event: settings.headers.of_event,
            url,
            signer: settings.signer,
            format: settings.format,
            cloud_events: settings.cloud_events,
            rules: settings.rules,
            redaction: Redaction::new(&settings.hidden),
            egress,
            request_timeout: settings.request_timeout,
            max_payload: settings.max_payload,
            max_response: settings.max_response,
            batch: settings.batch,
            doubts: Doubts::default(),
        })
    }
}

/// The headers that no event changes; the host first, as picky receivers like it.
fn every_request(url: &Url, configured: HeaderMap) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()?);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("outboxd/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if let Some(credentials) = basic_credentials(url) {
        headers.insert(AUTHORIZATION, credentials);
    }
    headers.extend(configured);
    Some(headers)
}

/// User and password of the URL, as a header.
fn basic_credentials(url: &Url) -> Option<HeaderValue> {
    let (user, password) = (url.username(), url.password());
    if user.is_empty() && password.is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password.unwrap_or_default()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Handler for Webhook {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        match self.batch {
            Some(batch) => Box::pin(async move { self.exchange_all(batch, vec![notification]).await.remove(0) }),
            None => Box::pin(self.exchange(notification)),
        }
    }

    fn largest_group(&self) -> usize {
        self.batch.map_or(1, |batch| batch.events)
    }

    fn gather_for(&self) -> Duration {
        self.batch.map_or(Duration::ZERO, |batch| batch.wait)
    }

    fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
        match self.batch {
            Some(batch) => Box::pin(self.exchange_all(batch, notifications)),
            None => Box::pin(join_all(notifications.into_iter().map(|notification| self.exchange(notification)))),
        }
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.connect_and_close())
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.connector.target();
        f.debug_struct("Webhook").field("target", &target).field("format", &self.format).field("egress", &self.egress).finish()
    }
}
