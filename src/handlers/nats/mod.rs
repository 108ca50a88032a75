//! `nats`: publishes each event to a JetStream stream and waits for the stream's acknowledgement; to core NATS only when asked.
//! Reading order: `settings`, `subject`, `credentials`, then `connect` and `notices` (what a server says unasked), `outgoing` (what goes
//! out), `send` and `store` (attempts), `classify` (what an answer means) and `probe`.
//! Never creates or changes a stream, never lets the client reconnect by itself, never takes silence for success.

mod classify;
mod connect;
mod credentials;
mod notices;
mod outgoing;
mod probe;
mod send;
mod settings;
mod store;
mod subject;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use self::connect::{Connection, Dialer};
use self::settings::{Mode, Settings};
use self::subject::Subjects;
use super::company::Company;
use super::envelope::Layout;
use super::link::Link;
use super::redaction::Redaction;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};
use crate::settings::Section;

pub const KIND: Kind = Kind {
    name: "nats",
    summary: "publish events to a NATS JetStream stream, or to core NATS",
    fields: settings::FIELDS,
    example: include_str!("../../../config/examples/nats.toml"),
    build,
};

fn build(section: &Section<'_>) -> Option<Built> {
    Some(Built::Handler(Arc::new(Nats::new(settings::read(section)?))))
}

/// Events that are sent before the first of them is waited for. More would save little, and keep those that are done waiting for the others.
const LARGEST_GROUP: usize = 32;

/// A place to publish to, and everything that can be prepared before the first event.
struct Nats {
    link: Link<Connection>,
    company: Company,
    dialer: Dialer,
    subjects: Subjects,
    layout: Layout,
    mode: Mode,
    stream: Option<String>,
    confirm_timeout: Duration,
    redaction: Redaction,
}

impl Nats {
    fn new(settings: Settings) -> Self {
        let Settings { servers, options, connect_timeout, confirm_timeout, domain, .. } = settings;
        let dialer = Dialer::new(servers, options, connect_timeout, confirm_timeout, domain);
        Self {
            link: Link::new(dialer.target(), connect_timeout),
            company: Company::default(),
            dialer,
            subjects: settings.subjects,
            layout: settings.layout,
            mode: settings.mode,
            stream: settings.stream,
            confirm_timeout,
            redaction: Redaction::new(&settings.hidden),
        }
    }
}

impl Handler for Nats {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(async { self.company.send(vec![notification], |group| self.attempt_all(group)).await.remove(0) })
    }

    fn largest_group(&self) -> usize {
        LARGEST_GROUP
    }

    fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(self.company.send(notifications, |group| self.attempt_all(group)))
    }

    fn destination(&self, notification: &Notification) -> Option<String> {
        self.subjects.destination(notification)
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.look())
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Nats");
        text.field("target", &self.link.target()).field("mode", &self.mode).field("stream", &self.stream).finish()
    }
}
