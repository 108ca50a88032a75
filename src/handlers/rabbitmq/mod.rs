//! `rabbitmq`: publishes each event to an exchange and takes it as delivered when the broker has confirmed it and a queue has it.
//! Reading order: `settings` and `address`, `publish` (one attempt), `publication` (what goes out), `broker` and `channels` (the
//! connection), `connect`, then `classify` (what an answer means).
//! Never publishes without `mandatory` and a confirmation, never retries, never recovers a connection that is in doubt.

mod address;
mod broker;
mod channels;
mod classify;
mod connect;
mod probe;
mod publication;
mod publish;
mod settings;
mod socket;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use self::address::Address;
use self::broker::Broker;
use self::publication::Recipe;
use self::settings::{Declared, Settings, Unroutable};
use super::company::Company;
use super::link::Link;
use super::redaction::Redaction;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};
use crate::settings::Section;

pub const KIND: Kind = Kind {
    name: "rabbitmq",
    summary: "publish events to an exchange of RabbitMQ, each confirmed by the broker",
    fields: settings::FIELDS,
    example: include_str!("../../../config/examples/rabbitmq.toml"),
    build,
};

fn build(section: &Section<'_>) -> Option<Built> {
    let settings = settings::read(section)?;
    Some(Built::Handler(Arc::new(RabbitMq::new(settings))))
}

/// Events that share a channel. More would save little, and keep those that are done waiting for the others.
const LARGEST_GROUP: usize = 32;

/// An exchange that events are published to.
struct RabbitMq {
    address: Address,
    link: Link<Broker>,
    company: Company,
    recipe: Recipe,
    declared: Declared,
    unroutable: Unroutable,
    /// `None`: the connection is not encrypted.
    tls: Option<Arc<rustls::ClientConfig>>,
    redaction: Redaction,
    /// How the broker shows the connection.
    connection_name: String,
    connect_timeout: Duration,
    confirm_timeout: Duration,
}

impl RabbitMq {
    fn new(settings: Settings) -> Self {
        let Settings { address, recipe, declared, unroutable, tls, connection_name, connect_timeout, confirm_timeout } = settings;
        Self {
            link: Link::new(address.target.clone(), connect_timeout),
            company: Company::default(),
            redaction: Redaction::new(&address.hidden),
            tls: address.is_encrypted().then(|| Arc::new(tls)),
            address,
            recipe,
            declared,
            unroutable,
            connection_name,
            connect_timeout,
            confirm_timeout,
        }
    }
}

impl Handler for RabbitMq {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(async { self.company.send(vec![notification], |group| self.publish_all(group)).await.remove(0) })
    }

    fn largest_group(&self) -> usize {
        LARGEST_GROUP
    }

    fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(self.company.send(notifications, |group| self.publish_all(group)))
    }

    fn destination(&self, notification: &Notification) -> Option<String> {
        self.recipe.destination(notification)
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.look())
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq").field("target", &self.address.target).field("exchange", &self.recipe.exchange()).finish()
    }
}
