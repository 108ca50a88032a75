//! `mqtt`: publishes each event to a topic of an MQTT 5 broker and waits for its acknowledgement, as plain JSON or as a CloudEvent.
//! Reading order: `settings`, `message` (what goes out), `publish` (one attempt), `connection` and `dial`, then `classify` (what an answer
//! means) and `suspects`.
//! Never publishes without being acknowledged, never subscribes, never keeps a session of the broker beyond its connection.

mod classify;
mod connection;
mod dial;
mod message;
mod probe;
mod publish;
mod settings;
mod suspects;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rumqttc::{Broker, MqttOptions};

use self::classify::Rules;
use self::connection::Connection;
use self::dial::Dialer;
use self::message::Composer;
use self::settings::Settings;
use self::suspects::Suspects;
use super::link::Link;
use super::redaction::Redaction;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};
use crate::settings::{Secret, Section};

pub const KIND: Kind = Kind {
    name: "mqtt",
    summary: "publish events to an MQTT 5 broker, acknowledged",
    fields: settings::FIELDS,
    example: include_str!("../../../config/examples/mqtt.toml"),
    build,
};

/// Longest packet that the broker may send us: acknowledgements, and what it says about them.
const LARGEST_ANSWER: u32 = 16 * 1024;

fn build(section: &Section<'_>) -> Option<Built> {
    let settings = settings::read(section)?;
    match Mqtt::new(settings) {
        Some(mqtt) => Some(Built::Handler(Arc::new(mqtt))),
        None => {
            section.mistake("url", "got a host that no certificate can be for, expected a name or an address");
            None
        }
    }
}

/// A topic of a broker, and everything that can be prepared before the first event.
struct Mqtt {
    link: Link<Connection>,
    dialer: Dialer,
    client_id: String,
    has_configured_id: bool,
    credentials: (Option<String>, Option<Secret>),
    keep_alive_seconds: u16,
    connect_timeout: Duration,
    confirm_timeout: Duration,
    composer: Composer,
    rules: Rules,
    suspects: Suspects,
    redaction: Redaction,
}

impl Mqtt {
    /// `None`: the host is no name that a certificate could be for.
    fn new(settings: Settings) -> Option<Self> {
        let Settings { address, credentials, connect_timeout, composer, .. } = settings;
        Some(Self {
            link: Link::new(address.to_string(), connect_timeout),
            dialer: Dialer::new(&address, settings.tls)?,
            client_id: settings.client_id,
            has_configured_id: settings.has_configured_id,
            keep_alive_seconds: settings.keep_alive_seconds,
            connect_timeout,
            confirm_timeout: settings.confirm_timeout,
            rules: Rules { must_be_routed: settings.must_be_routed, has_constant_topic: composer.has_constant_topic() },
            composer,
            suspects: Suspects::default(),
            redaction: Redaction::new(&credentials.1),
            credentials,
        })
    }

    /// The content of the connect packet.
    fn options(&self, client_id: &str) -> MqttOptions {
        // The stream is ours; the crate only wants to know some address.
        let mut options = MqttOptions::new(client_id, Broker::tcp("broker", 1));
        options.set_clean_start(true).set_session_expiry_interval(Some(0));
        options.set_keep_alive(self.keep_alive_seconds).set_max_packet_size(Some(LARGEST_ANSWER));
        // The caller bounds the time and reports the result.
        options.set_connect_timeout(self.connect_timeout * 2);
        match self.credentials.clone() {
            (None, None) => &mut options,
            (Some(username), None) => options.set_username(username),
            (None, Some(password)) => options.set_password(password.expose().to_owned()),
            (Some(username), Some(password)) => options.set_credentials(username, password.expose().to_owned()),
        };
        options
    }
}

impl Handler for Mqtt {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(self.publish(notification))
    }

    fn destination(&self, notification: &Notification) -> Option<String> {
        self.composer.destination(notification)
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(self.connect_and_leave())
    }
}

impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mqtt").field("target", &self.link.target()).field("composer", &self.composer).finish()
    }
}
