//! One event as clients receive it: a CloudEvent in JSON, and the same as one event of a stream. Made once and shared by all of them.

use axum::body::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::cursor::Ground;
use crate::domain::{Notification, plain_headers};
use crate::handlers::CloudEvents;
use crate::telemetry::TraceContext;

/// An event as it is sent, and what filters ask of it.
#[derive(Debug)]
pub struct Rendered {
    pub place: i64,
    pub cursor: super::Cursor,
    pub event_type: String,
    /// The aggregate id.
    pub subject: Option<String>,
    pub headers: Map<String, Value>,
    /// The CloudEvent, a JSON object.
    pub json: Bytes,
    /// The same as an event of `text/event-stream`.
    pub frame: Bytes,
}

/// Makes CloudEvents of one source.
#[derive(Debug)]
pub struct Renderer {
    events: CloudEvents,
}

impl Renderer {
    pub fn new(source: &str) -> Self {
        Self { events: CloudEvents::of_aggregates(source) }
    }

    /// `ground` has the epochs of the page that the event was read with.
    pub fn render(&self, ground: &Ground, place: i64, event: Notification) -> Rendered {
        let cursor = ground.cursor_of(place, event.id);
        let json = self.json(&event, &cursor.to_string());
        let (frame, json) = frame(&cursor.to_string(), &event.event_type, json);
        Rendered {
            place,
            cursor,
            headers: plain_headers(&event),
            event_type: event.event_type,
            subject: event.aggregate_id,
            json,
            frame,
        }
    }

    /// The CloudEvent, with the cursor as an extension attribute.
    fn json(&self, event: &Notification, cursor: &str) -> Vec<u8> {
        let trace = TraceContext::of(&event.headers);
        let plain = self.events.structured(event, id(event.id).as_str(), &trace);
        let mut json = Vec::with_capacity(plain.len() + cursor.len() + 16);
        json.extend_from_slice(b"{\"cursor\":\"");
        json.extend_from_slice(cursor.as_bytes());
        json.extend_from_slice(b"\",");
        json.extend_from_slice(&plain[1..]);
        json
    }
}

impl Rendered {
    /// Bytes that it holds in memory, near enough to bound them.
    pub fn bytes(&self) -> usize {
        let shares_json = self.frame.as_ptr_range().contains(&self.json.as_ptr());
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + 64 + value.as_str().map_or(0, str::len)).sum();
        size_of::<Self>() + self.frame.len() + if shares_json { 0 } else { self.json.len() } + self.event_type.len() + headers
    }
}

fn id(id: Uuid) -> String {
    id.to_string()
}

/// An event of a stream, and the JSON in it: without a copy where the payload has no line break of its own.
fn frame(cursor: &str, event_type: &str, json: Vec<u8>) -> (Bytes, Bytes) {
    let mut frame = Vec::with_capacity(json.len() + event_type.len() + 96);
    frame.extend_from_slice(b"id: ");
    frame.extend_from_slice(cursor.as_bytes());
    frame.extend_from_slice(b"\nevent: ");
    // A line break in the type would end the field; the JSON has the type as it is.
    frame.extend(event_type.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    frame.extend_from_slice(b"\ndata: ");
    let begin = frame.len();
    if !json.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        frame.extend_from_slice(&json);
        let end = frame.len();
        frame.extend_from_slice(b"\n\n");
        let frame = Bytes::from(frame);
        let json = frame.slice(begin..end);
        return (frame, json);
    }
    // Between the tokens of a JSON text one kind of line break is as good as another, and inside a string there is none.
    let mut was_return = false;
    for byte in &json {
        match byte {
            b'\n' if was_return => {}
            b'\n' | b'\r' => frame.extend_from_slice(b"\ndata: "),
            byte => frame.push(*byte),
        }
        was_return = *byte == b'\r';
    }
    frame.extend_from_slice(b"\n\n");
    (Bytes::from(frame), Bytes::from(json))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cursor::{EpochOfPlaces, Removed};
    use super::*;

    pub fn ground() -> Ground {
        let epochs = vec![EpochOfPlaces { id: Uuid::from_u128(7 << 96), began_after: 0 }];
        Ground { epochs, head: 100, removed: Removed::default(), event: None }
    }

    /// An event of order 42 at a place.
    pub fn rendered(place: i64, event_type: &str, headers: &str) -> Rendered {
        let event = Notification { headers: headers.to_owned(), ..Notification::sample(event_type, "{\"n\":1}") };
        Renderer::new("shop").render(&ground(), place, event)
    }

    /// What a client makes of a stream, as the specification of event streams says.
    fn parse(frame: &[u8]) -> (String, String, String) {
        let text = String::from_utf8(frame.to_vec()).expect("text").replace("\r\n", "\n").replace('\r', "\n");
        let (mut id, mut event, mut data) = (String::new(), String::new(), Vec::new());
        for line in text.lines() {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "id" => id = value.to_owned(),
                "event" => event = value.to_owned(),
                "data" => data.push(value.to_owned()),
                other => assert_eq!(other, "", "no other field"),
            }
        }
        (id, event, data.join("\n"))
    }

    #[test]
    fn a_frame_carries_the_event_whatever_its_payload_and_type_look_like() {
        for (event_type, payload) in [
            ("order.placed", "{\"n\":1}"),
            ("order.placed", "{\n  \"n\": 1,\r\n  \"t\": \"a\\nb\"\r}"),
            ("bad\nid: forged\r\n\r\ndata: {}", "{}"),
            ("grün \u{2028}", "{\"n\":12345678901234567890}"),
        ] {
            let event = Notification::sample(event_type, payload);
            let rendered = Renderer::new("shop").render(&ground(), 5, event);
            let (id, event, data) = parse(&rendered.frame);
            assert_eq!(id, rendered.cursor.to_string());
            assert_eq!(event, event_type.replace(['\n', '\r'], " "));
            let (sent, plain): (Value, Value) =
                (serde_json::from_str(&data).expect("JSON"), serde_json::from_slice(&rendered.json).expect("JSON"));
            assert_eq!(sent, plain);
            assert_eq!((sent["type"].as_str(), sent["specversion"].as_str()), (Some(event_type), Some("1.0")));
            assert_eq!(sent["cursor"].as_str(), Some(id.as_str()));
            assert!(std::str::from_utf8(&rendered.json).expect("text").contains(payload), "byte for byte as it was recorded");
        }
    }
}
