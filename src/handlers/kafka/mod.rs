//! `kafka`: publishes each event to a topic and counts it as delivered when all in-sync replicas have it.
//!
//! On librdkafka, not on krafka: it speaks to every version of the broker and to the services that imitate one, its retries
//! with an idempotent producer have a decade of outages behind them, and it says of a failed event whether it may have been
//! stored. krafka is one author's first year, and needs Kafka 3.9.
//! Reading order: `settings` and `properties`, `producer` (the one connection), `send`, then `classify` (what a report means) and
//! `trouble` (what is wrong with the brokers).
//! Never creates a topic, never counts what is not acknowledged, never lets librdkafka send after we gave up.

mod classify;
mod probe;
mod producer;
mod properties;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod topic;
mod trouble;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;
use tokio::sync::RwLock;

use self::producer::Producer;
use self::settings::Settings;
use super::envelope::Layout;
use super::link::Link;
use super::redaction::Redaction;
use super::template::Template;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};
use crate::settings::Section;

pub const KIND: Kind = Kind {
    name: "kafka",
    summary: "publish events to a Kafka topic",
    fields: settings::FIELDS,
    example: include_str!("../../../config/examples/kafka.toml"),
    build,
};

fn build(section: &Section<'_>) -> Option<Built> {
    Some(Built::Handler(Arc::new(Kafka::new(settings::read(section)?))))
}

/// A topic of a cluster, or several that the event chooses from.
struct Kafka {
    link: Link<Producer>,
    /// The properties of librdkafka. Contains secrets.
    config: ClientConfig,
    topic: Template,
    /// `None`: the key of the event, or its id if it has none.
    partition_key: Option<Template>,
    layout: Layout,
    confirm_timeout: Duration,
    redaction: Redaction,
    /// Held for reading by every publish, for writing by an event that must not share its batch.
    company: RwLock<()>,
}

impl Kafka {
    fn new(settings: Settings) -> Self {
        Self {
            link: Link::new(settings.target, settings.connect_timeout),
            config: settings.config,
            topic: settings.topic,
            partition_key: settings.partition_key,
            layout: settings.layout,
            confirm_timeout: settings.confirm_timeout,
            redaction: settings.redaction,
            company: RwLock::default(),
        }
    }
}

impl Handler for Kafka {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(self.publish(notification))
    }

    fn destination(&self, notification: &Notification) -> Option<String> {
        self.topic.destination(notification)
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.look())
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("brokers", &self.link.target()).field("topic", &self.topic).finish_non_exhaustive()
    }
}
