//! The envelope: one event as bytes and named facts beside them, the same for every kind; only how a name is written differs.
//! The payload is never parsed: it goes out byte for byte, so that numbers beyond 2^53, key order and foreign signatures survive.
//! A kind that is not HTTP sends what [`Layout::envelope`] gives.

use std::borrow::Cow;

use super::template::Template;
use crate::domain::{Notification, Reason, Timestamp, Verdict};
use crate::settings::{Field, FieldType, Section, format_bytes};
use crate::telemetry::TraceContext;

/// The settings of every kind that sends an [`Envelope`].
pub const FORMAT: Field = Field::new(
    "format",
    FieldType::Choice(CHOICES),
    "plain",
    "How the event is laid out: the payload alone, or a CloudEvent in headers (binary) or in the body (structured).",
);
pub const SOURCE: Field = Field::new("source", FieldType::Text, "outboxd", "Source of the CloudEvents, a URI reference.");
pub const HEADERS: Field = Field::new(
    "headers",
    FieldType::TextMap,
    "",
    "Headers to send besides those of outboxd; their values are templates such as \"{header:tenant}\".",
);
pub const MAX_PAYLOAD: Field =
    Field::new("max_payload", FieldType::Bytes, "1MiB", "Largest payload to send; a larger one becomes a dead letter at once.");

/// The formats, as the configuration spells them.
pub const CHOICES: &[&str] = &["plain", "cloudevents-binary", "cloudevents-structured"];

const JSON: &str = "application/json";
const CLOUD_EVENT_JSON: &str = "application/cloudevents+json";

/// How the event is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Plain,
    CloudEventsBinary,
    CloudEventsStructured,
}

impl Format {
    /// `text` is one of [`CHOICES`]; what is not is read as the default.
    pub fn from_choice(text: &str) -> Self {
        match text {
            "cloudevents-binary" => Self::CloudEventsBinary,
            "cloudevents-structured" => Self::CloudEventsStructured,
            _ => Self::Plain,
        }
    }

    /// What the body is.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Plain | Self::CloudEventsBinary => JSON,
            Self::CloudEventsStructured => CLOUD_EVENT_JSON,
        }
    }
}

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
const ATTRIBUTES: &[&Name] = &[name!("specversion"), name!("id"), name!("source"), name!("type"), name!("time"), name!("subject")];

/// The context attributes of an event. `id` is its id, as a text.
pub fn attributes<'n>(notification: &'n Notification, id: &'n str, source: &'n str) -> Vec<(&'static Name, Cow<'n, str>)> {
    let mut attributes = vec![
        (name!("specversion"), Cow::Borrowed("1.0")),
        (name!("id"), Cow::Borrowed(id)),
        (name!("source"), Cow::Borrowed(source)),
        (name!("type"), Cow::Borrowed(notification.event_type.as_str())),
    ];
    if let Some(time) = rfc_3339(notification.occurred_at) {
        attributes.push((name!("time"), Cow::Owned(time)));
    }
    // The specification forbids an empty subject.
    if let Some(subject) = notification.aggregate_id.as_deref().filter(|subject| !subject.is_empty()) {
        attributes.push((name!("subject"), Cow::Borrowed(subject)));
    }
    attributes
}

/// The trace context as attributes of the distributed tracing extension.
pub fn trace_attributes(trace: &TraceContext) -> impl Iterator<Item = (&'static Name, &str)> {
    let named = [(name!("traceparent"), trace.parent()), (name!("tracestate"), trace.state())];
    named.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// The whole CloudEvent as JSON. The payload is spliced in as text: parsing it would round large numbers.
pub fn structured(notification: &Notification, id: &str, source: &str, trace: &TraceContext) -> Vec<u8> {
    let mut json = Vec::with_capacity(notification.payload.len() + 512);
    let mut put = |name: &str, value: &str| {
        json.push(if json.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut json, name).expect("a text is JSON");
        json.push(b':');
        serde_json::to_writer(&mut json, value).expect("a text is JSON");
    };
    for (name, value) in attributes(notification, id, source) {
        put(name.bare, &value);
    }
    put("datacontenttype", JSON);
    for (name, value) in trace_attributes(trace) {
        put(name.bare, value);
    }
    json.extend_from_slice(b",\"data\":");
    json.extend_from_slice(notification.payload.as_bytes());
    json.push(b'}');
    json
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

/// RFC 3339 in UTC. `None`: Postgres knows infinity and years that it does not.
pub fn rfc_3339(moment: Timestamp) -> Option<String> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_207_200_000_000;
    YEARS_1_TO_9999.contains(&moment.as_micros()).then(|| moment.to_string())
}

/// What a kind that is not HTTP sends of one event.
#[derive(Debug)]
pub struct Envelope<'n> {
    pub content_type: &'static str,
    /// Each name once.
    pub headers: Vec<(&'n str, Cow<'n, str>)>,
    pub body: Cow<'n, [u8]>,
}

/// How a binding writes the name of an attribute; one of the fields of [`Name`].
pub type Naming = fn(&'static Name) -> &'static str;

/// How a handler lays its events out, as configured.
#[derive(Debug)]
pub struct Layout {
    format: Format,
    source: String,
    naming: Naming,
    headers: Vec<(String, Template)>,
    max_payload: u64,
}

/// Headers that outboxd or the protocol writes.
const RESERVED: &[&str] = &["content-type", "traceparent", "tracestate"];
const RESERVED_PREFIXES: &[&str] = &["event-", "aggregate-", "ce-", "ce_", "cloudevents", "nats-"];

impl Layout {
    /// Reads [`FORMAT`], [`SOURCE`], [`HEADERS`] and [`MAX_PAYLOAD`]. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>, naming: Naming) -> Option<Self> {
        let format = Format::from_choice(&section.text("format"));
        let attributes = if format == Format::CloudEventsBinary { ATTRIBUTES } else { &[] };
        let taken: Vec<&str> = attributes.iter().map(|name| naming(name)).collect();
        let (source, headers) = (read_source(section), read_headers(section, &taken));
        Some(Self { format, source: source?, naming, headers: headers?, max_payload: section.bytes("max_payload") })
    }

    /// What goes out. The verdict says why nothing can.
    ///
    /// The headers of the format `plain` are `event-id`, `event-type`, `event-time`, `event-key`, `aggregate-type`, `aggregate-id`
    /// and `aggregate-version` where the event has them; of the CloudEvents in binary mode their attributes; of all formats
    /// `traceparent`, `tracestate`, what is configured, and the marks `event-replay` and `event-test`. None of them differs from
    /// attempt to attempt.
    pub fn envelope<'n>(&'n self, notification: &'n Notification) -> Result<Envelope<'n>, Verdict> {
        refuse_larger(notification, self.max_payload)?;
        let trace = TraceContext::of(&notification.headers);
        let mut headers: Vec<(&'n str, Cow<'n, str>)> = Vec::with_capacity(12);
        let id = notification.id.to_string();
        let body = match self.format {
            Format::Plain => {
                headers.extend(facts(notification, id));
                Cow::Borrowed(notification.payload.as_bytes())
            }
            Format::CloudEventsBinary => {
                let attributes = attributes(notification, &id, &self.source);
                headers.extend(attributes.into_iter().map(|(name, value)| ((self.naming)(name), Cow::Owned(value.into_owned()))));
                let trace = trace_attributes(&trace).filter(|(name, _)| (self.naming)(name) != name.bare);
                headers.extend(trace.map(|(name, value)| ((self.naming)(name), Cow::Owned(value.to_owned()))));
                Cow::Borrowed(notification.payload.as_bytes())
            }
            Format::CloudEventsStructured => Cow::Owned(structured(notification, &id, &self.source, &trace)),
        };
        headers.extend(trace_attributes(&trace).map(|(name, value)| (name.bare, Cow::Owned(value.to_owned()))));
        for (name, template) in &self.headers {
            let value = template.render(notification).map_err(|missing| missing.verdict(&format!("headers.{name}")))?;
            headers.push((name, value));
        }
        for (name, is_so) in [("event-replay", notification.is_replay), ("event-test", notification.is_test)] {
            headers.extend(is_so.then_some((name, Cow::Borrowed("true"))));
        }
        Ok(Envelope { content_type: self.format.content_type(), headers, body })
    }
}

/// An event with a larger payload than [`MAX_PAYLOAD`] allows is never sent.
pub fn refuse_larger(notification: &Notification, max_payload: u64) -> Result<(), Verdict> {
    let bytes = notification.payload.len() as u64;
    if bytes <= max_payload {
        return Ok(());
    }
    let detail = format!("the payload has {bytes} bytes, max_payload is {}", format_bytes(max_payload));
    Err(Verdict::permanent(Reason::TooLarge, detail))
}

/// What a plain event says of itself, by the names of the headers.
pub fn facts<'n>(notification: &'n Notification, id: String) -> impl Iterator<Item = (&'n str, Cow<'n, str>)> {
    let facts = [
        ("event-id", Some(Cow::Owned(id))),
        ("event-type", Some(Cow::Borrowed(notification.event_type.as_str()))),
        ("event-time", rfc_3339(notification.occurred_at).map(Cow::Owned)),
        ("event-key", notification.key.as_deref().map(Cow::Borrowed)),
        ("aggregate-type", notification.aggregate_type.as_deref().map(Cow::Borrowed)),
        ("aggregate-id", notification.aggregate_id.as_deref().map(Cow::Borrowed)),
        ("aggregate-version", notification.aggregate_version.map(|version| Cow::Owned(version.to_string()))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// The source of CloudEvents. `None`: a mistake was reported.
pub fn read_source(section: &Section<'_>) -> Option<String> {
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

fn read_headers(section: &Section<'_>, taken: &[&str]) -> Option<Vec<(String, Template)>> {
    let mut headers = Vec::new();
    let mut is_valid = true;
    for (name, text) in section.text_map("headers") {
        match header(&name, &text, taken) {
            Ok(template) => headers.push((name, template)),
            Err(problem) => {
                section.mistake(&format!("headers.{name}"), &problem);
                is_valid = false;
            }
        }
    }
    is_valid.then_some(headers)
}

fn header(name: &str, text: &str, taken: &[&str]) -> Result<Template, String> {
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err("is not the name of a header, expected letters, digits, \"-\", \"_\" and \".\"".to_owned());
    }
    if RESERVED.contains(&lower.as_str())
        || taken.contains(&lower.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
    {
        return Err("is written by outboxd itself and cannot be set".to_owned());
    }
    Template::parse(text).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use toml::Table;

    use super::*;
    use crate::settings::Mistakes;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const PAYLOAD: &str = "{\"n\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";

    fn layout(settings: &str) -> Result<Layout, Vec<String>> {
        let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let section = Section::open("handlers.x", &table, &[FORMAT, SOURCE, HEADERS, MAX_PAYLOAD], &[], &mistakes);
        Layout::read(&section, |name| name.underscored).ok_or_else(|| mistakes.into_vec().iter().map(ToString::to_string).collect())
    }

    fn event() -> Notification {
        Notification {
            headers: format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=b","tenant":"acme"}}"#),
            aggregate_version: Some(3),
            is_replay: true,
            ..Notification::sample("order.placed", PAYLOAD)
        }
    }

    fn told(settings: &str) -> (String, String) {
        let (layout, event) = (layout(settings).expect("valid"), event());
        let envelope = layout.envelope(&event).expect("it can be sent");
        let headers: Vec<String> = envelope.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (headers.join(" "), String::from_utf8(envelope.body.into_owned()).expect("UTF-8"))
    }

    #[test]
    fn a_plain_event_is_its_payload_and_says_what_it_is() {
        let (headers, body) = told("headers = { tenant = \"{header:tenant}\" }");
        assert_eq!(body, PAYLOAD);
        assert_eq!(
            headers,
            format!(
                "event-id=018f0000-0000-7000-8000-000000000001 event-type=order.placed event-time=2023-11-14T22:13:20.000000Z \
                 event-key=order/42 aggregate-type=order aggregate-id=42 aggregate-version=3 traceparent={PARENT} tracestate=a=b \
                 tenant=acme event-replay=true"
            )
        );
    }

    #[test]
    fn a_binary_cloud_event_has_its_attributes_beside_the_payload() {
        let (headers, body) = told("format = \"cloudevents-binary\"\nsource = \"shop\"");
        assert_eq!(body, PAYLOAD);
        assert_eq!(
            headers,
            format!(
                "ce_specversion=1.0 ce_id=018f0000-0000-7000-8000-000000000001 ce_source=shop ce_type=order.placed \
                 ce_time=2023-11-14T22:13:20.000000Z ce_subject=42 ce_traceparent={PARENT} ce_tracestate=a=b \
                 traceparent={PARENT} tracestate=a=b event-replay=true"
            )
        );
    }

    #[test]
    fn a_structured_cloud_event_has_everything_in_its_body() {
        let (headers, body) = told("format = \"cloudevents-structured\"");
        assert_eq!(headers, format!("traceparent={PARENT} tracestate=a=b event-replay=true"));
        assert!(body.ends_with(&format!(",\"data\":{PAYLOAD}}}")), "{body}");
        let parsed: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&parsed["type"], &parsed["source"]), (&"order.placed".into(), &"outboxd".into()));
    }

    #[test]
    fn what_cannot_be_sent_is_a_dead_letter() {
        for (settings, reason) in
            [("max_payload = \"8B\"", Reason::TooLarge), ("headers = { x = \"{header:nobody}\" }", Reason::Unaddressable)]
        {
            let (layout, event) = (layout(settings).expect("valid"), event());
            let verdict = layout.envelope(&event).expect_err(settings);
            assert_eq!((verdict.outcome, verdict.reason), (crate::domain::Outcome::Permanent, reason));
        }
    }

    #[test]
    fn headers_are_checked_when_they_are_read() {
        for (settings, want) in [
            ("headers = { \"a b\" = \"x\" }", "handlers.x.headers.a b: is not the name of a header"),
            ("headers = { event-id = \"x\" }", "handlers.x.headers.event-id: is written by outboxd itself"),
            ("headers = { Ce_Id = \"x\" }", "handlers.x.headers.Ce_Id: is written by outboxd itself"),
            ("headers = { x = \"{typ}\" }", "handlers.x.headers.x: {typ} names no value"),
            ("source = \"a b\"", "handlers.x.source: got \"a b\", expected a URI reference"),
        ] {
            let mistakes = layout(settings).expect_err(settings);
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(want), "{mistakes:?}");
        }
    }

    #[test]
    fn a_time_that_rfc_3339_does_not_know_is_left_out() {
        assert_eq!(rfc_3339(Timestamp::from_micros(i64::MAX)), None);
    }
}
