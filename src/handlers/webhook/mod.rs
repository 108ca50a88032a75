//! `webhook`: posts each event to a URL, signed by the Standard Webhooks scheme, as plain JSON or as a CloudEvent.
//! Reading order: `settings`, `send` (one exchange), `body`, `signature`, then `classify` (what an answer means) and `egress`.
//! Never follows a redirect, never uses a proxy of the environment, never retries, never shows a secret.

mod body;
mod classify;
mod egress;
mod excerpt;
mod probe;
mod retry_after;
mod send;
mod settings;
mod signature;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use url::{Host, Url};

use self::body::Format;
use self::classify::Rules;
use self::egress::{Egress, FilteringResolver};
use self::settings::Settings;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};
use crate::settings::Section;

pub use self::signature::{InvalidSecret, Signer, verify};
// What every HTTP client of ours needs, whomever it calls.
pub(crate) use self::excerpt::Redaction;
pub(crate) use self::retry_after::parse as parse_retry_after;
pub(crate) use self::tls::{TlsSettings, client_config as tls_config};
pub(crate) use self::transport::root_text;

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
        Ok(webhook) => Some(Built::Handler(Arc::new(webhook))),
        Err(error) => {
            section.mistake("url", &format!("could not prepare an HTTP client: {}", transport::root_text(&error)));
            None
        }
    }
}

/// A receiver of events, and everything that can be prepared before the first of them.
struct Webhook {
    client: reqwest::Client,
    /// Without user and password; those are among `headers`.
    url: Url,
    /// `host:port`, for people.
    target: String,
    /// What every request carries.
    headers: HeaderMap,
    signer: Signer,
    format: Format,
    source: String,
    rules: Rules,
    redaction: Redaction,
    egress: Egress,
    /// The URL names an address itself, and the egress rules forbid it.
    is_blocked: bool,
    resolver: FilteringResolver,
    tls: rustls::ClientConfig,
    connect_timeout: Duration,
    request_timeout: Duration,
    max_payload: usize,
    max_response: usize,
}

impl Webhook {
    fn new(settings: Settings, resolver: FilteringResolver) -> Result<Self, reqwest::Error> {
        let client = client(&settings, &resolver)?;
        // Reqwest turns user and password of a URL into a header; once here instead of at every event.
        let template = client.post(settings.url.clone()).headers(settings.headers).build()?;
        Ok(Self {
            client,
            url: template.url().clone(),
            target: target(template.url()),
            headers: template.headers().clone(),
            signer: settings.signer,
            format: settings.format,
            source: settings.source,
            rules: settings.rules,
            redaction: Redaction::new(&settings.hidden),
            egress: settings.egress,
            is_blocked: literal_address(template.url()).is_some_and(|address| !settings.egress.allows(address)),
            resolver,
            tls: settings.tls,
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            max_payload: settings.max_payload,
            max_response: settings.max_response,
        })
    }
}

impl Handler for Webhook {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(self.exchange(notification))
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.connect_and_close())
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("target", &self.target).field("format", &self.format).field("egress", &self.egress).finish()
    }
}

// The pool has no bound of its own: there are never more connections than the relay has deliveries in flight.
fn client(settings: &Settings, resolver: &FilteringResolver) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(settings.tls.clone())
        .user_agent(concat!("outboxd/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(resolver.clone())
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(send::POOL_IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .build()
}

fn target(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}
