//! The body of one request: the event as plain JSON or as a CloudEvent, in headers or in the body.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::super::cloud_event::{CloudEvents, percent_encoded, trace_attributes};
use super::super::envelope::Format;
use crate::domain::Notification;
use crate::telemetry::TraceContext;

/// The body, and the headers that describe it, added to `headers`.
pub fn encode(format: Format, notification: &Notification, id: &str, events: &CloudEvents, headers: &mut HeaderMap) -> Vec<u8> {
    let trace = TraceContext::of(&notification.headers);
    for (name, value) in trace_attributes(&trace) {
        put(headers, name.bare, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    match format {
        Format::Plain => notification.payload.clone().into_bytes(),
        Format::CloudEventsBinary => {
            for (name, value) in events.attributes(notification, id) {
                headers.insert(HeaderName::from_static(name.dashed), header_value(&value));
            }
            for (name, value) in trace_attributes(&trace) {
                put(headers, name.dashed, value);
            }
            notification.payload.clone().into_bytes()
        }
        Format::CloudEventsStructured => events.structured(notification, id, &trace),
    }
}

/// A text as the value of a header, percent-encoded where it must be.
pub fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(&percent_encoded(text)).expect("printable ASCII is a header value")
}

/// A value that goes out as it is, or not at all if no header can hold it.
pub fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::Timestamp;

    const SUBJECT: &str = "{aggregate_id}";
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const PAYLOAD: &str = "{\"n\": 9007199254740993,\n \"z\":1.10, \"a\":\"é\"}";

    fn encode(format: Format, notification: &Notification) -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        let body =
            super::encode(format, notification, &notification.id.to_string(), &CloudEvents::new("shop", SUBJECT), &mut headers);
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
