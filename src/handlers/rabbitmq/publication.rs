//! The message of one event: exchange, routing key, properties with a table of headers, and the body. Finds everything that AMQP
//! has no room for, because the broker would close the whole connection over it.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::super::envelope::{Envelope, Layout};
use super::super::template::Template;
use crate::domain::{Notification, Reason, Verdict};

/// Bytes of an exchange, a routing key or the name of a header.
pub const LONGEST_NAME: usize = 255;

const APP_ID: &str = "outboxd";
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;
/// The bytes that the properties beside the headers can take of a frame, and the frame itself.
const PROPERTIES: usize = 512;
/// The type and length of a text beside it.
const TEXT: usize = 6;

/// An event as AMQP has it.
#[derive(Debug)]
pub struct Publication {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
    /// All of it that must fit into one frame.
    head: usize,
}

/// How a handler makes publications, as configured.
#[derive(Debug)]
pub struct Recipe {
    exchange: ShortString,
    routing_key: Template,
    layout: Layout,
    delivery_mode: u8,
}

impl Recipe {
    /// `exchange` has at most [`LONGEST_NAME`] bytes.
    pub fn new(exchange: String, routing_key: Template, layout: Layout, is_persistent: bool) -> Self {
        let delivery_mode = if is_persistent { PERSISTENT } else { TRANSIENT };
        Self { exchange: ShortString::from(exchange), routing_key, layout, delivery_mode }
    }

    pub fn exchange(&self) -> &str {
        self.exchange.as_str()
    }

    /// The routing key, if no event changes it.
    pub fn constant_key(&self) -> Option<&str> {
        self.routing_key.constant()
    }

    /// The routing key of this event, if others have another one.
    pub fn destination(&self, notification: &Notification) -> Option<String> {
        self.routing_key.destination(notification)
    }

    /// The verdict says why there is none.
    pub fn publication(&self, notification: &Notification) -> Result<Publication, Verdict> {
        let routing_key = self.key(notification)?;
        let Envelope { content_type, headers, body } = self.layout.envelope(notification)?;
        let mut table = FieldTable::default();
        let mut head = PROPERTIES;
        for (name, value) in headers {
            head += name.len() + value.len() + TEXT + 1;
            table.insert(short(name), AMQPValue::LongString(LongString::from(value.into_owned())));
        }
        let properties = BasicProperties::default()
            .with_content_type(short(content_type))
            .with_headers(table)
            .with_delivery_mode(self.delivery_mode)
            .with_message_id(short(&notification.id.to_string()))
            .with_app_id(short(APP_ID));
        let properties = described(properties, notification);
        Ok(Publication { exchange: self.exchange.clone(), routing_key, properties, body: body.into_owned(), head })
    }

    fn key(&self, notification: &Notification) -> Result<ShortString, Verdict> {
        let key = self.routing_key.render(notification).map_err(|missing| missing.verdict("routing_key"))?;
        let bytes = key.len();
        ShortString::try_new(key).map_err(|_| {
            let detail = format!("the routing key has {bytes} bytes, AMQP allows {LONGEST_NAME}");
            Verdict::permanent(Reason::Unaddressable, detail)
        })
    }
}

impl Publication {
    /// By which the broker names it when it gives it back.
    pub fn id(&self) -> String {
        self.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Why it cannot be sent in frames of this size, if so.
    pub fn too_large_for(&self, largest_frame: usize) -> Option<Verdict> {
        (self.head > largest_frame).then(|| {
            let detail = format!("the headers have {} bytes, a frame of the broker {largest_frame}", self.head - PROPERTIES);
            Verdict::permanent(Reason::TooLarge, detail)
        })
    }
}

/// The properties with the optional facts of the event.
fn described(mut properties: BasicProperties, notification: &Notification) -> BasicProperties {
    if let Ok(kind) = ShortString::try_new(notification.event_type.as_str()) {
        properties = properties.with_type(kind);
    }
    // Whole seconds since 1970, which is all that AMQP has; the exact time is a header.
    if let Ok(micros) = u64::try_from(notification.occurred_at.as_micros()) {
        properties = properties.with_timestamp(micros / 1_000_000);
    }
    properties
}

/// A text whose length was checked, or is ours.
fn short(text: &str) -> ShortString {
    ShortString::from(text)
}
