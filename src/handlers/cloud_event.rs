//! CloudEvents: the mapping from the facts of an event to attributes, and the names of attributes in each binding. The payload is
//! inserted as text and never parsed.

use std::borrow::Cow;

use super::envelope::rfc_3339;
use super::template::{self, Template};
use crate::domain::Notification;
use crate::settings::{Field, FieldType, Section};
use crate::telemetry::TraceContext;

pub const SOURCE: Field = Field::new("source", FieldType::Text, "outboxd", "Source of the CloudEvents, a URI reference.");
pub const SUBJECT: Field = Field::new(
    "cloudevents_subject",
    FieldType::Text,
    "{aggregate_id}",
    "Subject of the CloudEvents, a template; \"{aggregate_type}/{aggregate_id}\" distinguishes order/42 from invoice/42.",
);

const JSON: &str = "application/json";

/// The name of a CloudEvents attribute, as the bindings write it beside the body.
#[derive(Debug)]
pub struct Name {
    /// MQTT, and inside a body.
    pub bare: &'static str,
    /// HTTP and NATS.
    pub dashed: &'static str,
    /// Kafka.
    pub underscored: &'static str,
    /// AMQP.
    pub coloned: &'static str,
}

macro_rules! name {
    ($bare:literal) => {
        &Name {
            bare: $bare,
            dashed: concat!("ce-", $bare),
            underscored: concat!("ce_", $bare),
            coloned: concat!("cloudEvents:", $bare),
        }
    };
}

/// Every attribute that an event may have.
pub const ATTRIBUTES: &[&Name] = &[
    name!("specversion"),
    name!("id"),
    name!("source"),
    name!("type"),
    name!("time"),
    name!("subject"),
    name!("dataschema"),
    name!("aggregatetype"),
    name!("aggregateversion"),
    name!("correlationid"),
    name!("causationid"),
];

/// The headers of an event that say what it belongs to and what caused it: the unit of work writes the first spelling.
const CORRELATION: &[&str] = &["correlation", "correlation_id", "correlationid"];
const CAUSATION: &[&str] = &["causation", "causation_id", "causationid"];

/// The configuration of the CloudEvents of a handler.
#[derive(Debug)]
pub struct CloudEvents {
    source: String,
    subject: Template,
}

impl CloudEvents {
    /// Reads [`SOURCE`] and [`SUBJECT`]. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let (source, subject) = (read_source(section), Template::read(section, SUBJECT.name));
        Some(Self { source: source?, subject: subject? })
    }

    /// With the subject that is the default of every kind: the aggregate id. `source` is a URI reference.
    pub fn of_aggregates(source: &str) -> Self {
        let subject = Template::parse(SUBJECT.default.unwrap_or_default()).expect("the default is a template");
        Self { source: source.to_owned(), subject }
    }

    /// For tests and fuzzing, which know that their texts are right.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn new(source: &str, subject: &str) -> Self {
        Self { source: source.to_owned(), subject: Template::parse(subject).expect("a template") }
    }

    /// The context attributes of an event. `id` is its id, as a text. An attribute for which the event has no value is left out.
    pub fn attributes<'n>(&'n self, notification: &'n Notification, id: &'n str) -> Vec<(&'static Name, Cow<'n, str>)> {
        let public = notification.contract.as_deref();
        let mut attributes = Vec::with_capacity(ATTRIBUTES.len());
        attributes.extend([
            (name!("specversion"), Cow::Borrowed("1.0")),
            (name!("id"), Cow::Borrowed(id)),
            (name!("source"), Cow::Borrowed(self.source.as_str())),
            (name!("type"), Cow::Borrowed(public.map_or(notification.event_type.as_str(), |public| &public.cloudevents_type))),
        ]);
        let [correlation, causation] = template::scalars(&notification.headers, [CORRELATION, CAUSATION]);
        let further = [
            (name!("time"), rfc_3339(notification.occurred_at).map(Cow::Owned)),
            (name!("subject"), self.subject.render(notification).ok()),
            (name!("dataschema"), public.and_then(|public| public.dataschema.as_deref()).map(Cow::Borrowed)),
            (name!("aggregatetype"), notification.aggregate_type.as_deref().map(Cow::Borrowed)),
            (name!("aggregateversion"), notification.aggregate_version.map(|version| Cow::Owned(version.to_string()))),
            (name!("correlationid"), correlation.map(Cow::Owned)),
            (name!("causationid"), causation.map(Cow::Owned)),
        ];
        // The specification forbids empty attributes.
        attributes.extend(further.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?))));
        attributes
    }

    /// The whole CloudEvent as JSON. The payload is spliced in as text: parsing it would round large numbers.
    pub fn structured(&self, notification: &Notification, id: &str, trace: &TraceContext) -> Vec<u8> {
        let mut json = Vec::with_capacity(notification.payload.len() + 512);
        let mut put = |name: &str, value: &str| {
            json.push(if json.is_empty() { b'{' } else { b',' });
            serde_json::to_writer(&mut json, name).expect("a text is JSON");
            json.push(b':');
            serde_json::to_writer(&mut json, value).expect("a text is JSON");
        };
        for (name, value) in self.attributes(notification, id) {
            put(name.bare, &value);
        }
        put("datacontenttype", JSON);
        // That its version comes to an end, under the names that the headers have beside a body.
        for (name, value) in notification.contract.iter().flat_map(|public| &public.announcements) {
            put(name, value);
        }
        for (name, value) in trace_attributes(trace) {
            put(name.bare, value);
        }
        json.extend_from_slice(b",\"data\":");
        json.extend_from_slice(notification.payload.as_bytes());
        json.push(b'}');
        json
    }
}

/// The trace context as attributes of the distributed tracing extension.
pub fn trace_attributes(trace: &TraceContext) -> impl Iterator<Item = (&'static Name, &str)> {
    let named = [(name!("traceparent"), trace.parent()), (name!("tracestate"), trace.state())];
    named.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// Percent-encoded as CloudEvents says for headers of HTTP and NATS: space, double quote, percent and everything that is not printable
/// ASCII.
pub fn percent_encoded(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}

/// The source of CloudEvents. `None`: a mistake was reported.
fn read_source(section: &Section<'_>) -> Option<String> {
    let source = section.text("source");
    if source.is_empty() || !source.bytes().all(|byte| byte.is_ascii_graphic()) {
        section.mistake(
            "source",
            &format!("got {source:?}, expected a URI reference such as \"https://example.org/shop\" or \"shop\""),
        );
        return None;
    }
    Some(source)
}
