//! One event as an MQTT message: topic, payload, properties. Finds everything that a broker would end the session for, because
//! the session belongs to all events in flight: an event that cannot be sent must not take others with it.

use hyper::body::Bytes;
use rumqttc::{Publish, PublishOptions, PublishProperties, QoS};

use super::super::envelope::Layout;
use super::super::template::Template;
use crate::domain::{Notification, Reason, Verdict};

/// Longest text that MQTT can carry, in bytes.
const LONGEST_TEXT: usize = u16::MAX as usize;
/// The payload is UTF-8.
const UTF_8: u8 = 1;

/// Makes messages of events, as configured.
#[derive(Debug)]
pub struct Composer {
    topic: Template,
    layout: Layout,
    qos: QoS,
    retain: bool,
    expiry_seconds: Option<u32>,
}

/// The message to send.
#[derive(Debug, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub options: PublishOptions,
    /// Of the whole packet, in bytes.
    pub size: usize,
}

impl Composer {
    pub fn new(topic: Template, layout: Layout, qos: QoS, retain: bool, expiry_seconds: Option<u32>) -> Self {
        Self { topic, layout, qos, retain, expiry_seconds }
    }

    pub fn qos(&self) -> QoS {
        self.qos
    }

    pub fn retains(&self) -> bool {
        self.retain
    }

    /// The topic of this event, if others have another one.
    pub fn destination(&self, notification: &Notification) -> Option<String> {
        self.topic.destination(notification)
    }

    /// Whether all events go to one topic.
    pub fn has_constant_topic(&self) -> bool {
        self.topic.constant().is_some()
    }

    /// The message of an event; the verdict says why there is none.
    pub fn message(&self, notification: &Notification) -> Result<Message, Verdict> {
        let envelope = self.layout.envelope(notification)?;
        let topic = self.topic_of(notification)?;
        let mut user_properties = Vec::with_capacity(envelope.headers.len());
        for (name, value) in envelope.headers {
            if let Some(flaw) = flaw_of_text(&value) {
                return Err(unaddressable(&format!("the user property \"{name}\""), flaw));
            }
            user_properties.push((name.to_owned(), value.into_owned()));
        }
        let properties = PublishProperties {
            payload_format_indicator: Some(UTF_8),
            message_expiry_interval: self.expiry_seconds,
            content_type: Some(envelope.content_type.to_owned()),
            user_properties,
            ..PublishProperties::default()
        };
        Ok(self.measured(topic, envelope.body.into_owned().into(), properties))
    }

    /// Where an event goes.
    pub fn topic_of(&self, notification: &Notification) -> Result<String, Verdict> {
        let topic = self.topic.render(notification).map_err(|missing| missing.verdict("topic"))?.into_owned();
        // Topics of this kind belong to the broker; that an event gets there must be meant, not a value of the event.
        let is_meant = || self.topic.literals().next().is_some_and(|first| topic.starts_with(first) && first.starts_with('$'));
        match flaw_of_topic(&topic) {
            Some(flaw) => Err(unaddressable("the topic", flaw)),
            None if topic.starts_with('$') && !is_meant() => Err(unaddressable("the topic", "begins with a \"$\" of the event")),
            None => Ok(topic),
        }
    }

    fn measured(&self, topic: String, payload: Bytes, properties: PublishProperties) -> Message {
        let mut packet = Publish::new(topic.clone(), self.qos, payload.clone(), Some(properties));
        packet.pkid = 1; // any: its place counts, and all of them are equally long
        let size = packet.size();
        let options = PublishOptions::new(self.qos).retain(self.retain).properties(packet.properties.unwrap_or_default());
        Message { topic, payload, options, size }
    }
}

fn unaddressable(what: &str, flaw: &str) -> Verdict {
    Verdict::permanent(Reason::Unaddressable, format!("{what} {flaw}, which MQTT does not allow"))
}

/// Why a text cannot be published to, if so.
pub fn flaw_of_topic(text: &str) -> Option<&'static str> {
    if text.is_empty() { Some("is empty") } else { flaw_of_literal(text) }
}

/// Why a text cannot be part of a topic, if so.
pub fn flaw_of_literal(text: &str) -> Option<&'static str> {
    match text.find(['+', '#']).map(|place| text.as_bytes()[place]) {
        Some(b'+') => Some("has a \"+\""),
        Some(_) => Some("has a \"#\""),
        None => flaw_of_text(text),
    }
}

/// Why a text is none that every broker takes, if so. A broker may treat what MQTT only advises against as an attack, and end the
/// session (mosquitto does).
pub fn flaw_of_text(text: &str) -> Option<&'static str> {
    let is_no_character = |c: char| matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE;
    if text.len() > LONGEST_TEXT {
        Some("is longer than 65535 bytes")
    } else if text.contains(char::is_control) {
        Some("has a control character")
    } else if text.contains(is_no_character) {
        Some("has a code point that is no character")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::Table;

    use super::super::super::envelope::LAYOUT;
    use super::*;
    use crate::domain::Outcome;
    use crate::settings::{Mistakes, Section};

    const PAYLOAD: &str = "{\"n\": 9007199254740993}";

    fn composer(topic: &str, settings: &str) -> Composer {
        let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let section = Section::open("handlers.x", &table, LAYOUT, &[], &mistakes);
        let layout = Layout::read(&section, |name| name.bare).expect("valid");
        Composer::new(Template::parse(topic).expect("valid"), layout, QoS::AtLeastOnce, false, Some(60))
    }

    #[test]
    fn a_message_is_the_payload_and_says_what_it_is() {
        let message =
            composer("orders/{aggregate_id}", "").message(&Notification::sample("order.placed", PAYLOAD)).expect("sendable");
        assert_eq!((message.topic.as_str(), message.payload.as_ref()), ("orders/42", PAYLOAD.as_bytes()));
        let pairs = [
            ("event-id", "018f0000-0000-7000-8000-000000000001"),
            ("event-type", "order.placed"),
            ("event-time", "2023-11-14T22:13:20.000000Z"),
            ("event-key", "order/42"),
            ("aggregate-type", "order"),
            ("aggregate-id", "42"),
        ];
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(60),
            content_type: Some("application/json".to_owned()),
            user_properties: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ..PublishProperties::default()
        };
        assert_eq!(message.options, PublishOptions::new(QoS::AtLeastOnce).properties(properties));
    }

    #[test]
    fn an_event_that_would_end_the_session_is_a_dead_letter_instead() {
        for (topic, event_type, settings, want) in [
            ("{type}", "a+b", "", "the topic has a \"+\", which MQTT does not allow"),
            ("{type}", "a/#", "", "the topic has a \"#\", which MQTT does not allow"),
            ("{type}", "a\tb", "", "the topic has a control character, which MQTT does not allow"),
            ("{type}", "$SYS/a", "", "the topic begins with a \"$\" of the event, which MQTT does not allow"),
            ("a/{header:x}", "a", "", "the event has no header \"x\" with a text, number or boolean, which topic needs"),
            ("a", "a\u{85}b", "", "the user property \"event-type\" has a control character, which MQTT does not allow"),
            (
                "a",
                "\u{fffe}",
                "",
                "the user property \"event-type\" has a code point that is no character, which MQTT does not allow",
            ),
        ] {
            let verdict = composer(topic, settings).message(&Notification::sample(event_type, "{}")).expect_err(want);
            assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Unaddressable), "{verdict:?}");
            assert_eq!(verdict.detail, want);
        }
    }

    #[test]
    fn a_topic_of_the_broker_can_be_meant() {
        let composer = composer("$share-less/{type}", "");
        assert_eq!(composer.message(&Notification::sample("$a", "{}")).expect("sendable").topic, "$share-less/$a");
    }

    #[test]
    fn a_value_that_is_too_long_is_a_dead_letter() {
        let event = Notification { key: Some("x".repeat(70_000)), ..Notification::sample("a", "{}") };
        let verdict = composer("a", "").message(&event).expect_err("too long");
        assert_eq!(verdict.detail, "the user property \"event-key\" is longer than 65535 bytes, which MQTT does not allow");
    }

    proptest! {
        // The packet is what the broker measures; a size that is off by one would end the session.
        #[test]
        fn the_size_is_that_of_the_packet(topic in "[a-z]{1,200}", payload in ".{0,20000}", event_type in "[a-z]{1,200}") {
            let message = composer(&topic, "").message(&Notification::sample(&event_type, &payload)).expect("sendable");
            let mut written = Default::default();
            let properties = PublishProperties {
                payload_format_indicator: Some(1),
                message_expiry_interval: Some(60),
                content_type: Some("application/json".to_owned()),
                user_properties: vec![
                    ("event-id".to_owned(), "018f0000-0000-7000-8000-000000000001".to_owned()),
                    ("event-type".to_owned(), event_type),
                    ("event-time".to_owned(), "2023-11-14T22:13:20.000000Z".to_owned()),
                    ("event-key".to_owned(), "order/42".to_owned()),
                    ("aggregate-type".to_owned(), "order".to_owned()),
                    ("aggregate-id".to_owned(), "42".to_owned()),
                ],
                ..PublishProperties::default()
            };
            let mut packet = Publish::new(topic, QoS::AtLeastOnce, payload.into_bytes(), Some(properties));
            packet.pkid = 65_535;
            prop_assert_eq!(message.size, packet.write(&mut written).expect("it is valid"));
        }
    }
}
