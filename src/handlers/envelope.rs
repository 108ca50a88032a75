//! The envelope: one event as bytes and named facts beside them. It is the same for every kind, except for the way in which names
//! are written.
//!
//! The payload is never parsed: it is sent byte for byte, so that numbers beyond 2^53, key order and foreign signatures survive.
//! A kind that is not HTTP sends the result of [`Layout::envelope`].

use std::borrow::Cow;

use super::cloud_event::{ATTRIBUTES, CloudEvents, Name, trace_attributes};
use super::extra_headers::ExtraHeaders;
use crate::domain::{Notification, Reason, Timestamp, Verdict};
use crate::settings::{Field, FieldType, Section, format_bytes};
use crate::telemetry::TraceContext;

pub use super::cloud_event::{SOURCE, SUBJECT};
#[cfg_attr(not(feature = "brokers"), allow(unused_imports))] // what a binary without some broker does not use
pub use super::extra_headers::{FORWARD_HEADERS, HEADERS};

/// The settings of every kind that sends an [`Envelope`].
pub const FORMAT: Field = Field::new(
    "format",
    FieldType::Choice(CHOICES),
    "plain",
    "Form of the message: the payload alone, or a CloudEvent in headers (binary) or in the body (structured).",
);
pub const MAX_PAYLOAD: Field =
    Field::new("max_payload", FieldType::Bytes, "1MiB", "Largest payload to send; a larger one becomes a dead letter at once.");

/// The settings of a [`Layout`], all of them.
#[cfg(test)]
pub const LAYOUT: &[Field] = &[FORMAT, SOURCE, SUBJECT, HEADERS, FORWARD_HEADERS, MAX_PAYLOAD];

/// The formats, as the configuration spells them.
pub const CHOICES: &[&str] = &["plain", "cloudevents-binary", "cloudevents-structured"];

const JSON: &str = "application/json";
const CLOUD_EVENTS_JSON: &str = "application/cloudevents-batch+json";
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

    /// The content type of a body of several events.
    pub const fn batch_content_type(self) -> &'static str {
        match self {
            Self::Plain | Self::CloudEventsBinary => JSON,
            Self::CloudEventsStructured => CLOUD_EVENTS_JSON,
        }
    }

    /// The content type of the body.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Plain | Self::CloudEventsBinary => JSON,
            Self::CloudEventsStructured => CLOUD_EVENT_JSON,
        }
    }
}

/// RFC 3339 in UTC. `None`: Postgres knows infinity and years that it does not.
pub fn rfc_3339(moment: Timestamp) -> Option<String> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_207_200_000_000;
    YEARS_1_TO_9999.contains(&moment.as_micros()).then(|| moment.to_string())
}

/// The message of one event for a kind that is not HTTP.
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
    cloud_events: CloudEvents,
    naming: Naming,
    headers: ExtraHeaders,
    max_payload: u64,
}

impl Layout {
    /// Reads format, source, subject, headers and the bound on payloads. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>, naming: Naming) -> Option<Self> {
        let format = Format::from_choice(&section.text("format"));
        let attributes = if format == Format::CloudEventsBinary { ATTRIBUTES } else { &[] };
        let taken: Vec<&str> = attributes.iter().map(|name| naming(name)).collect();
        let (cloud_events, headers) = (CloudEvents::read(section), ExtraHeaders::read(section, &taken));
        Some(Self { format, cloud_events: cloud_events?, naming, headers: headers?, max_payload: section.bytes("max_payload") })
    }

    /// The message to send. The verdict says why there is none.
    ///
    /// The headers of the format `plain` are `event-id`, `event-type`, `event-version`, `event-time`, `event-key`, `aggregate-type`, `aggregate-id`
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
                let attributes = self.cloud_events.attributes(notification, &id);
                headers.extend(attributes.into_iter().map(|(name, value)| ((self.naming)(name), Cow::Owned(value.into_owned()))));
                let trace = trace_attributes(&trace).filter(|(name, _)| (self.naming)(name) != name.bare);
                headers.extend(trace.map(|(name, value)| ((self.naming)(name), Cow::Owned(value.to_owned()))));
                Cow::Borrowed(notification.payload.as_bytes())
            }
            Format::CloudEventsStructured => Cow::Owned(self.cloud_events.structured(notification, &id, &trace)),
        };
        headers.extend(trace_attributes(&trace).map(|(name, value)| (name.bare, Cow::Owned(value.to_owned()))));
        if let Some(public) = &notification.contract {
            headers.extend(public.announcements.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_str()))));
        }
        self.headers.add(notification, &mut headers)?;
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

/// The facts of a plain event, by the names of the headers.
pub fn facts<'n>(notification: &'n Notification, id: String) -> impl Iterator<Item = (&'n str, Cow<'n, str>)> {
    let facts = [
        ("event-id", Some(Cow::Owned(id))),
        ("event-type", Some(Cow::Borrowed(notification.event_type.as_str()))),
        ("event-version", notification.contract.as_ref().map(|public| Cow::Owned(public.version.to_string()))),
        ("event-time", rfc_3339(notification.occurred_at).map(Cow::Owned)),
        ("event-key", notification.key.as_deref().map(Cow::Borrowed)),
        ("aggregate-type", notification.aggregate_type.as_deref().map(Cow::Borrowed)),
        ("aggregate-id", notification.aggregate_id.as_deref().map(Cow::Borrowed)),
        ("aggregate-version", notification.aggregate_version.map(|version| Cow::Owned(version.to_string()))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;
    use toml::Table;

    use super::*;
    use crate::domain::PublicVersion;
    use crate::settings::Mistakes;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const PAYLOAD: &str = "{\"n\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";

    fn layout(settings: &str) -> Result<Layout, Vec<String>> {
        let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let section = Section::open("handlers.x", &table, LAYOUT, &[], &mistakes);
        Layout::read(&section, |name| name.underscored).ok_or_else(|| mistakes.into_vec().iter().map(ToString::to_string).collect())
    }

    fn event() -> Notification {
        Notification {
            headers: format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=b","tenant":"acme","version":2,"correlation":"r-1"}}"#),
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
        let (headers, body) = told("headers = { tenant = \"{header:tenant}\" }\nforward_headers = [\"version\", \"missing\"]");
        assert_eq!(body, PAYLOAD);
        assert_eq!(
            headers,
            format!(
                "event-id=018f0000-0000-7000-8000-000000000001 event-type=order.placed event-time=2023-11-14T22:13:20.000000Z \
                 event-key=order/42 aggregate-type=order aggregate-id=42 aggregate-version=3 traceparent={PARENT} tracestate=a=b \
                 tenant=acme version=2 event-replay=true"
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
                 ce_time=2023-11-14T22:13:20.000000Z ce_subject=42 ce_aggregatetype=order ce_aggregateversion=3 ce_correlationid=r-1 ce_traceparent={PARENT} ce_tracestate=a=b \
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
    fn an_event_with_a_contract_says_its_version_and_that_it_comes_to_an_end() {
        let public = PublicVersion {
            version: 2,
            cloudevents_type: "order.placed.v2".to_owned(),
            dataschema: Some("urn:order.placed:2".to_owned()),
            announcements: vec![("sunset", "Thu, 31 Dec 2026 00:00:00 GMT".to_owned())],
        };
        let event = Notification { contract: Some(Arc::new(public)), ..Notification::sample("order.placed", PAYLOAD) };
        for (settings, want) in [
            ("headers = { v = \"v{version}\" }", ["event-type=order.placed", "event-version=2", "v=v2"]),
            ("format = \"cloudevents-binary\"", ["ce_type=order.placed.v2", "ce_dataschema=urn:order.placed:2", "ce_subject=42"]),
        ] {
            let layout = layout(settings).expect("valid");
            let envelope = layout.envelope(&event).expect("it can be sent");
            let headers: Vec<String> = envelope.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            for want in want.iter().chain(&["sunset=Thu, 31 Dec 2026 00:00:00 GMT"]) {
                assert!(headers.iter().any(|header| header == want), "{want}: {headers:?}");
            }
        }
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
            ("format = \"cloudevents-binary\"\nforward_headers = [\"ce_id\"]", "handlers.x.forward_headers: \"ce_id\" is written"),
            ("forward_headers = [\"event-id\"]", "handlers.x.forward_headers: \"event-id\" is written by outboxd itself"),
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
