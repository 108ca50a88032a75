//! What one request carries: the event as plain JSON or as a CloudEvent, in headers or in the body.
//! The payload is never parsed: it goes out byte for byte, so that numbers beyond 2^53, key order and foreign signatures survive.

use std::borrow::Cow;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::domain::{Notification, Timestamp};
use crate::telemetry::TraceContext;

/// How the event is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Plain,
    CloudEventsBinary,
    CloudEventsStructured,
}

/// The formats, as the configuration spells them.
pub const CHOICES: &[&str] = &["plain", "cloudevents-binary", "cloudevents-structured"];

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOUD_EVENT_JSON: HeaderValue = HeaderValue::from_static("application/cloudevents+json");

impl Format {
    /// `text` is one of [`CHOICES`]; what is not is read as the default.
    pub fn from_choice(text: &str) -> Self {
        match text {
            "cloudevents-binary" => Self::CloudEventsBinary,
            "cloudevents-structured" => Self::CloudEventsStructured,
            _ => Self::Plain,
        }
    }

    /// The body and the headers that describe it, added to `headers`. `source` is the CloudEvents source.
    pub fn encode(self, notification: &Notification, id: &str, source: &str, headers: &mut HeaderMap) -> Vec<u8> {
        let trace = TraceContext::of(&notification.headers);
        write_trace(&trace, headers, "traceparent", "tracestate");
        headers.insert(CONTENT_TYPE, JSON);
        match self {
            Self::Plain => notification.payload.clone().into_bytes(),
            Self::CloudEventsBinary => {
                for (name, value) in attributes(notification, id, source) {
                    headers.insert(HeaderName::from_static(name), header_value(&value));
                }
                write_trace(&trace, headers, "ce-traceparent", "ce-tracestate");
                notification.payload.clone().into_bytes()
            }
            Self::CloudEventsStructured => {
                headers.insert(CONTENT_TYPE, CLOUD_EVENT_JSON);
                envelope(notification, id, source, &trace)
            }
        }
    }
}

/// A text as the value of a header, percent-encoded as CloudEvents says: space, double quote, percent and everything that is
/// not printable ASCII.
pub fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(&percent_encoded(text)).expect("printable ASCII is a header value")
}

fn percent_encoded(text: &str) -> Cow<'_, str> {
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

/// The context attributes, under their names as headers.
fn attributes<'n>(notification: &'n Notification, id: &'n str, source: &'n str) -> Vec<(&'static str, Cow<'n, str>)> {
    let mut attributes = vec![
        ("ce-specversion", Cow::Borrowed("1.0")),
        ("ce-id", Cow::Borrowed(id)),
        ("ce-source", Cow::Borrowed(source)),
        ("ce-type", Cow::Borrowed(notification.event_type.as_str())),
    ];
    if let Some(time) = rfc_3339(notification.occurred_at) {
        attributes.push(("ce-time", Cow::Owned(time)));
    }
    // The specification forbids an empty subject.
    if let Some(subject) = notification.aggregate_id.as_deref().filter(|subject| !subject.is_empty()) {
        attributes.push(("ce-subject", Cow::Borrowed(subject)));
    }
    attributes
}

// The payload is spliced in as text: parsing it would round large numbers.
fn envelope(notification: &Notification, id: &str, source: &str, trace: &TraceContext) -> Vec<u8> {
    let mut json = Vec::with_capacity(notification.payload.len() + 512);
    let mut put = |name: &str, value: &str| {
        json.push(if json.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut json, name).expect("a text is JSON");
        json.push(b':');
        serde_json::to_writer(&mut json, value).expect("a text is JSON");
    };
    for (name, value) in attributes(notification, id, source) {
        put(name.trim_start_matches("ce-"), &value);
    }
    put("datacontenttype", "application/json");
    for (name, value) in [("traceparent", trace.parent()), ("tracestate", trace.state())] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    json.extend_from_slice(b",\"data\":");
    json.extend_from_slice(notification.payload.as_bytes());
    json.push(b'}');
    json
}

// Postgres knows infinity and years that RFC 3339 does not; then the optional attribute is left out.
fn rfc_3339(moment: Timestamp) -> Option<String> {
    const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_207_200_000_000;
    YEARS_1_TO_9999.contains(&moment.as_micros()).then(|| moment.to_string())
}

fn write_trace(trace: &TraceContext, headers: &mut HeaderMap, parent: &'static str, state: &'static str) {
    for (name, value) in [(parent, trace.parent()), (state, trace.state())] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const PAYLOAD: &str = "{\"n\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";

    fn encode(format: Format, notification: &Notification) -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        let body = format.encode(notification, &notification.id.to_string(), "shop", &mut headers);
        (headers, String::from_utf8(body).expect("UTF-8"))
    }

    fn traced(headers: &str) -> Notification {
        Notification { headers: headers.to_owned(), ..Notification::sample("order.placed", PAYLOAD) }
    }

    #[test]
    fn a_plain_body_is_the_payload_byte_for_byte() {
        let (headers, body) = encode(Format::Plain, &traced("{}"));
        assert_eq!(body, PAYLOAD);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["content-type"], "application/json");
    }

    #[test]
    fn a_binary_cloud_event_has_its_attributes_in_headers() {
        let notification = traced(&format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=b, c=d","n":1e999}}"#));
        let (headers, body) = encode(Format::CloudEventsBinary, &notification);
        assert_eq!(body, PAYLOAD);
        for (name, want) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "018f0000-0000-7000-8000-000000000001"),
            ("ce-source", "shop"),
            ("ce-type", "order.placed"),
            ("ce-time", "2023-11-14T22:13:20.000000Z"),
            ("ce-subject", "42"),
            ("ce-traceparent", PARENT),
            ("ce-tracestate", "a=b, c=d"),
            ("traceparent", PARENT),
            ("tracestate", "a=b, c=d"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(headers[name], want, "{name}");
        }
    }

    #[test]
    fn a_structured_cloud_event_splices_the_payload_in() {
        let (headers, body) = encode(Format::CloudEventsStructured, &traced(&format!(r#"{{"traceparent":"{PARENT}"}}"#)));
        assert_eq!(headers["content-type"], "application/cloudevents+json");
        assert!(body.ends_with(&format!(",\"data\":{PAYLOAD}}}")), "{body}");
        let parsed: Value = serde_json::from_str(&body).expect("JSON");
        for (name, want) in
            [("specversion", "1.0"), ("type", "order.placed"), ("source", "shop"), ("subject", "42"), ("traceparent", PARENT)]
        {
            assert_eq!(parsed[name], want, "{name}");
        }
    }

    #[test]
    fn a_header_value_is_percent_encoded() {
        for (text, want) in
            [("order.placed", "order.placed"), ("a b\"%é\n", "a%20b%22%25%C3%A9%0A"), ("", ""), ("~!€", "~!%E2%82%AC")]
        {
            assert_eq!(header_value(text), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_trace_context_is_left_out() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let (headers, _) = encode(Format::CloudEventsBinary, &traced(&format!(r#"{{"traceparent":"{zero}","tracestate":"a=b"}}"#)));
        assert!(headers.keys().all(|name| !name.as_str().contains("trace")), "{headers:?}");
    }

    #[test]
    fn a_time_that_rfc_3339_does_not_know_is_left_out() {
        let mut endless = Notification::sample("t", "{}");
        endless.occurred_at = Timestamp::from_micros(i64::MAX);
        endless.aggregate_id = Some(String::new());
        let (headers, _) = encode(Format::CloudEventsBinary, &endless);
        assert!(!headers.contains_key("ce-time") && !headers.contains_key("ce-subject"));
    }
}
