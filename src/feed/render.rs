//! One event as clients receive it: a CloudEvent in JSON, and the same as one event of a stream.
//!
//! The bytes are made once as the event was recorded, and once for each version of its contract that a client reads; all clients
//! of a version share them. If an event has no valid form in a version, or is damaged, the clients of that version get a
//! CloudEvent `outboxd.unavailable` in its place.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde_json::{Map, Value, json};
use tracing::warn;
use uuid::Uuid;

use super::cursor::Ground;
use super::seal::Cursors;
use crate::contracts::{FormId, Pins};
use crate::domain::{Notification, plain_headers};
use crate::handlers::CloudEvents;
use crate::store::feed::PlacedEvent;
use crate::telemetry::{TraceContext, chain};

/// Stands in for an event that has no valid form in the version that the client reads, or that is damaged.
const UNAVAILABLE: &str = "outboxd.unavailable";
/// Versions of one event that are kept; more only come from reloads.
const MOST_VERSIONS: usize = 8;
/// Between two lines of the log about such events.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// An event as it is sent.
#[derive(Debug)]
pub struct Form {
    /// The CloudEvent, a JSON object.
    pub json: Bytes,
    /// The same as an event of `text/event-stream`.
    pub frame: Bytes,
    /// It is said that the event cannot be had, in its place.
    pub is_unavailable: bool,
}

/// An event of the feed, and what filters ask of it.
#[derive(Debug)]
pub struct Rendered {
    pub place: i64,
    pub cursor: super::Cursor,
    pub headers: Map<String, Value>,
    /// As it was recorded, but for its payload, which is in the JSON below.
    recorded: Notification,
    plain: Arc<Form>,
    payload_bytes: usize,
    /// In the versions that were asked for.
    versions: Mutex<Vec<(FormId, Arc<Form>)>>,
}

/// Makes CloudEvents of one source.
#[derive(Debug)]
pub struct Renderer {
    events: CloudEvents,
    cursors: Arc<Cursors>,
    /// When the log last reported that an event has no valid form.
    told: Mutex<Option<Instant>>,
}

impl Renderer {
    pub fn new(source: &str, cursors: Cursors) -> Self {
        Self { events: CloudEvents::of_aggregates(source), cursors: Arc::new(cursors), told: Mutex::default() }
    }

    /// The form of the cursors.
    pub fn cursors(&self) -> Arc<Cursors> {
        Arc::clone(&self.cursors)
    }

    /// `ground` has the epochs of the page that the event was read with.
    pub fn render(&self, ground: &Ground, PlacedEvent { place, mut event, damage }: PlacedEvent) -> Rendered {
        let cursor = ground.cursor_of(place, event.id);
        let text = self.cursors.text(cursor);
        let plain = Arc::new(match damage {
            None => self.form(&event, &text, &event.event_type),
            Some(damage) => {
                let instead = self.instead_of_damaged(&event, &damage);
                Form { is_unavailable: true, ..self.form(&instead, &text, UNAVAILABLE) }
            }
        });
        let payload_bytes = std::mem::take(&mut event.payload).len();
        Rendered {
            place,
            cursor,
            headers: plain_headers(&event),
            recorded: *event,
            plain,
            payload_bytes,
            versions: Mutex::default(),
        }
    }

    /// `name`: of the event in a stream.
    fn form(&self, event: &Notification, cursor: &str, name: &str) -> Form {
        let (frame, json) = frame(cursor, name, self.json(event, cursor));
        Form { json, frame, is_unavailable: false }
    }

    /// The event as a client of these pins reads it.
    fn version(&self, event: &Notification, cursor: &str, pins: &Pins) -> Form {
        let (shown, is_unavailable) = self.prepare(event, pins);
        Form { is_unavailable, ..self.form(&shown, cursor, &shown.event_type) }
    }

    /// An event of a stream, with its version there as an extension attribute; `pins` as for the feed. Also whether it is only said that it cannot be had.
    /// `damage`: why the event cannot be read as a whole.
    pub fn in_stream(&self, (event, damage): (&Notification, Option<&str>), version: i64, pins: Option<&Pins>) -> (Vec<u8>, bool) {
        let attribute = format!("\"streamversion\":\"{version}\"");
        if let Some(damage) = damage {
            return (self.with_attribute(&self.instead_of_damaged(event, damage), &attribute), true);
        }
        let pins = pins.filter(|pins| pins.form(&event.event_type).is_some());
        let (shown, is_unavailable) = pins.map_or((Cow::Borrowed(event), false), |pins| self.prepare(event, pins));
        (self.with_attribute(&shown, &attribute), is_unavailable)
    }

    fn instead_of_damaged(&self, event: &Notification, damage: &str) -> Notification {
        self.tell(event, damage);
        instead_of(event, None, "unreadable", "the event is damaged and cannot be read")
    }

    /// The event in the version of these pins, or what stands in its place; and whether it is the latter.
    fn prepare<'n>(&self, event: &'n Notification, pins: &Pins) -> (Cow<'n, Notification>, bool) {
        match pins.prepare(event) {
            Ok(prepared) => (prepared, false),
            Err(error) => {
                let cause = chain(&error).to_string();
                self.tell(event, &cause);
                let wanted = pins.versions().find(|(known, _)| *known == event.event_type).map(|(_, version)| version);
                (Cow::Owned(instead_of(event, wanted, "contract", &cause)), true)
            }
        }
    }

    fn tell(&self, event: &Notification, cause: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            warn!(event = %event.id, error = cause, "an event cannot be shown to clients of the feed, who get {UNAVAILABLE} in its place");
        }
    }

    /// The CloudEvent, with the cursor as an extension attribute.
    fn json(&self, event: &Notification, cursor: &str) -> Vec<u8> {
        self.with_attribute(event, &format!("\"cursor\":\"{cursor}\""))
    }

    fn with_attribute(&self, event: &Notification, attribute: &str) -> Vec<u8> {
        let trace = TraceContext::of(&event.headers);
        let plain = self.events.structured(event, id(event.id).as_str(), &trace);
        let mut json = Vec::with_capacity(plain.len() + attribute.len() + 2);
        json.push(b'{');
        json.extend_from_slice(attribute.as_bytes());
        json.push(b',');
        json.extend_from_slice(&plain[1..]);
        json
    }
}

impl Rendered {
    pub fn event_type(&self) -> &str {
        &self.recorded.event_type
    }

    /// The aggregate id.
    pub fn subject(&self) -> Option<&str> {
        self.recorded.aggregate_id.as_deref()
    }

    /// As a client with these pins reads it; `None`: as it was recorded.
    pub fn form(&self, renderer: &Renderer, pins: Option<&Pins>) -> Arc<Form> {
        let pins = pins.filter(|_| !self.plain.is_unavailable); // without a payload there is nothing to cast
        let Some((pins, id)) = pins.and_then(|pins| Some((pins, pins.form(self.event_type())?))) else {
            return Arc::clone(&self.plain);
        };
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, form)) = versions.iter().find(|(known, _)| *known == id) {
            return Arc::clone(form);
        }
        let form = Arc::new(renderer.version(&self.event(), &renderer.cursors.text(self.cursor), pins));
        if versions.len() == MOST_VERSIONS {
            versions.clear();
        }
        versions.push((id, Arc::clone(&form)));
        form
    }

    /// The event as it was recorded.
    fn event(&self) -> Notification {
        // The payload is the last member of the CloudEvent.
        let end = self.plain.json.len() - 1;
        let payload = &self.plain.json[end - self.payload_bytes..end];
        Notification { payload: String::from_utf8_lossy(payload).into_owned(), ..self.recorded.clone() }
    }

    /// Bytes that it holds in memory as it was recorded, near enough to bound them.
    pub fn bytes(&self) -> usize {
        let Form { json, frame, .. } = &*self.plain;
        let shares_json = frame.as_ptr_range().contains(&json.as_ptr());
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + 64 + value.as_str().map_or(0, str::len)).sum();
        let recorded = self.event_type().len() + self.recorded.headers.len() + self.subject().map_or(0, str::len);
        size_of::<Self>() + frame.len() + if shares_json { 0 } else { json.len() } + recorded + headers
    }
}

/// The form in place of an event that a client cannot have. `detail` never repeats a value of the payload.
fn instead_of(event: &Notification, version: Option<u32>, reason: &str, detail: &str) -> Notification {
    let data = json!({ "type": event.event_type, "version": version, "reason": reason, "detail": detail });
    Notification { event_type: UNAVAILABLE.to_owned(), payload: data.to_string(), ..event.clone() }
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
        placed(place, Notification { headers: headers.to_owned(), ..Notification::sample(event_type, "{\"n\":1}") })
    }

    fn placed(place: i64, event: Notification) -> Rendered {
        Renderer::new("shop", Cursors::plain()).render(&ground(), PlacedEvent { place, event: Box::new(event), damage: None })
    }

    /// Reads a stream as a client does by the specification of event streams.
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
            let rendered = placed(5, Notification::sample(event_type, payload));
            let form = rendered.form(&Renderer::new("shop", Cursors::plain()), None);
            let (id, event, data) = parse(&form.frame);
            assert_eq!(id, rendered.cursor.to_string());
            assert_eq!(event, event_type.replace(['\n', '\r'], " "));
            let (sent, plain): (Value, Value) =
                (serde_json::from_str(&data).expect("JSON"), serde_json::from_slice(&form.json).expect("JSON"));
            assert_eq!(sent, plain);
            assert_eq!((sent["type"].as_str(), sent["specversion"].as_str()), (Some(event_type), Some("1.0")));
            assert_eq!(sent["cursor"].as_str(), Some(id.as_str()));
            assert!(std::str::from_utf8(&form.json).expect("text").contains(payload), "byte for byte as it was recorded");
            assert_eq!((rendered.event().payload.as_str(), rendered.event_type()), (payload, event_type));
        }
    }
}
