//! The message of one event: subject, headers and body. The id of the event is the id by which a stream recognises a duplicate.

use std::borrow::Cow;

use async_nats::header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, Subject};
use hyper::body::Bytes;

use super::super::cloud_event::percent_encoded;
use super::Nats;
use crate::domain::{Notification, Verdict};

/// Values that go out as they were recorded: the specification of trace context has no encoding, and all of them are printable.
const AS_RECORDED: &[&str] = &["traceparent", "tracestate", "ce-traceparent", "ce-tracestate"];

/// One event, laid out.
#[derive(Debug)]
pub struct Outgoing {
    pub subject: Subject,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Outgoing {
    pub fn publish(self) -> PublishMessage {
        PublishMessage::build().headers(self.headers).payload(self.body)
    }
}

impl Nats {
    /// The verdict says why nothing can go out.
    pub(super) fn outgoing(&self, notification: &Notification) -> Result<Outgoing, Verdict> {
        let subject = self.subjects.of(notification)?.into_owned().into();
        let envelope = self.layout.envelope(notification)?;
        let body = Bytes::from(envelope.body.into_owned());
        let mut headers = headers(envelope.content_type, envelope.headers);
        headers.insert(NATS_MESSAGE_ID, notification.id.to_string());
        if let Some(stream) = &self.stream {
            headers.insert(NATS_EXPECTED_STREAM, stream.as_str());
        }
        Ok(Outgoing { subject, headers, body })
    }
}

fn headers(content_type: &str, told: Vec<(&str, Cow<'_, str>)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type);
    for (name, value) in told {
        headers.insert(name, if AS_RECORDED.contains(&name) { value.into_owned() } else { encoded(value) });
    }
    headers
}

fn encoded(value: Cow<'_, str>) -> String {
    match percent_encoded(&value) {
        Cow::Borrowed(_) => value.into_owned(),
        Cow::Owned(encoded) => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings;
    use super::*;
    use crate::settings::{Mistakes, Section};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn nats(settings: &str) -> Nats {
        let text = format!("servers = [\"nats://x\"]\nsubject = \"orders.{{type}}\"\n{settings}");
        let (table, mistakes) = (text.parse().expect("valid TOML"), Mistakes::default());
        let section = Section::open("h", &table, settings::FIELDS, super::super::super::waits::COMMON, &mistakes);
        Nats::new(settings::read(&section).unwrap_or_else(|| panic!("{settings}")))
    }

    fn told(nats: &Nats, event: &Notification) -> Vec<(String, String)> {
        let headers = nats.outgoing(event).expect("it can go out").headers;
        let mut told: Vec<_> = headers.iter().map(|(name, values)| (name.to_string(), values[0].to_string())).collect();
        told.sort();
        told
    }

    fn event() -> Notification {
        let headers = format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=b, c=d","tenant":"a\r\nb%é"}}"#);
        Notification { headers, ..Notification::sample("order.placed", "{\"n\": 9007199254740993}") }
    }

    #[test]
    fn an_event_carries_its_id_and_what_no_header_can_carry_is_encoded() {
        let nats = nats("stream = \"ORDERS\"\nheaders = { tenant = \"{header:tenant}\" }");
        let outgoing = nats.outgoing(&event()).expect("it can go out");
        assert_eq!((outgoing.subject.as_str(), &*outgoing.body), ("orders.order.placed", b"{\"n\": 9007199254740993}".as_slice()));
        let told = told(&nats, &event());
        for (name, want) in [
            ("Nats-Msg-Id", "018f0000-0000-7000-8000-000000000001"),
            ("Nats-Expected-Stream", "ORDERS"),
            ("content-type", "application/json"),
            ("event-type", "order.placed"),
            ("event-key", "order/42"),
            ("tenant", "a%0D%0Ab%25%C3%A9"),
            ("traceparent", PARENT),
            ("tracestate", "a=b, c=d"),
        ] {
            assert!(told.contains(&(name.to_owned(), want.to_owned())), "{name}: {told:?}");
        }
    }

    #[test]
    fn a_cloud_event_has_dashed_names() {
        let told = told(&nats("format = \"cloudevents-binary\""), &event());
        for (name, want) in [("ce-type", "order.placed"), ("ce-specversion", "1.0"), ("ce-tracestate", "a=b, c=d")] {
            assert!(told.contains(&(name.to_owned(), want.to_owned())), "{name}: {told:?}");
        }
    }

    #[test]
    fn no_attempt_differs_from_another() {
        let nats = nats("");
        assert_eq!(told(&nats, &event()), told(&nats, &Notification { attempt: 7, ..event() }));
    }
}
