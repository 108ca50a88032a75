//! `redis`: appends each event to a Redis Stream and waits for the id of its entry; on request also for replicas or for the disk.
//! Reading order: `settings`, `connection` (who we are, who the server is), `entry` (what goes out), `send` (one attempt), `barrier`
//! (what is waited for besides), `classify` (what an answer means), `probe`.
//! Never retries, never follows a redirect of a cluster, never trims unless told to, never shows a secret.

mod barrier;
mod classify;
mod connection;
mod entry;
mod facts;
mod probe;
mod send;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use self::connection::{Connection, Server};
use self::entry::Form;
use self::settings::Settings;
use super::company::Company;
use super::envelope::Layout;
use super::link::Link;
use super::template::Template;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};
use crate::settings::Section;

pub const KIND: Kind = Kind {
    name: "redis",
    summary: "append events to a Redis Stream",
    fields: settings::FIELDS,
    example: include_str!("../../../config/examples/redis.toml"),
    build,
};

fn build(section: &Section<'_>) -> Option<Built> {
    settings::read(section).map(|settings| Built::Handler(Arc::new(RedisStreams::new(settings))))
}

/// Entries that leave together. More would save little, and keep those that are done waiting for the others.
const LARGEST_PIPELINE: usize = 64;

/// A server with streams, and the one connection to it.
struct RedisStreams {
    server: Server,
    link: Link<Connection>,
    company: Company,
    /// The key of the stream, which may depend on the event.
    stream: Template,
    layout: Layout,
    form: Form,
    /// Longest wait for all answers about one event.
    confirm_timeout: Duration,
}

impl RedisStreams {
    fn new(settings: Settings) -> Self {
        let Settings { server, stream, layout, form, connect_timeout, confirm_timeout } = settings;
        Self {
            link: Link::new(server.target(), connect_timeout),
            company: Company::default(),
            server,
            stream,
            layout,
            form,
            confirm_timeout,
        }
    }
}

impl Handler for RedisStreams {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(async { self.company.send(vec![notification], |group| self.attempt_all(group)).await.remove(0) })
    }

    fn largest_group(&self) -> usize {
        LARGEST_PIPELINE
    }

    fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(self.company.send(notifications, |group| self.attempt_all(group)))
    }

    fn destination(&self, notification: &Notification) -> Option<String> {
        self.stream.destination(notification)
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.look())
    }
}

impl fmt::Debug for RedisStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreams").field("target", &self.link.target()).field("stream", &self.stream).finish_non_exhaustive()
    }
}
