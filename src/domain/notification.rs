//! A notification: the form in which a handler receives one event. It has the event as recorded, and the facts of this delivery.

#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Timestamp;

/// The header with the version of the contract.
pub const VERSION: &str = "version";

/// The envelope of one event on its way to one handler.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Internal order; never shown to a receiver.
    pub seq: i64,
    /// Public idempotency key: the same on every attempt and replay.
    pub id: Uuid,
    /// 1 to 255 bytes, any characters.
    pub event_type: String,
    /// The type of the aggregate that the event is about, for example `order`.
    pub aggregate_type: Option<String>,
    /// Which one; events of one are delivered in order.
    pub aggregate_id: Option<String>,
    /// The version of the aggregate after the event, where it has one.
    pub aggregate_version: Option<i64>,
    /// A JSON object, byte for byte as it was recorded.
    pub payload: String,
    /// A JSON object as text; see [`Notification::headers`].
    pub headers: String,
    /// When the producer recorded it, by the clock of the database.
    pub occurred_at: Timestamp,
    /// Ordering key, as the handler's configuration computes it; `None`: in no order with anything.
    pub key: Option<String>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// An operator asked for this delivery again.
    pub is_replay: bool,
    /// Nothing has happened: an operator tries the handler with a made-up event.
    pub is_test: bool,
    /// The version of its contract in which the payload is; `None`: the type has no contract.
    pub contract: Option<Arc<PublicVersion>>,
}

/// A version of a public event, as the receivers of an event read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicVersion {
    /// From 1.
    pub version: u32,
    /// The attribute `type` of its CloudEvents.
    pub cloudevents_type: String,
    /// The attribute `dataschema` of its CloudEvents.
    pub dataschema: Option<String>,
    /// That the version comes to an end, as headers say it: `deprecation`, `sunset` and `link`, each with its value. Empty: it does not.
    pub announcements: Vec<(&'static str, String)>,
}

impl Notification {
    /// The headers the producer recorded. Empty if there are none.
    pub fn headers(&self) -> Map<String, Value> {
        serde_json::from_str(&self.headers).unwrap_or_else(|_| self.headers_one_by_one())
    }

    /// For headers of which one is more than a [`Value`] can hold, such as a number beyond every float: that one is given as its text, and
    /// the others are as they are.
    fn headers_one_by_one(&self) -> Map<String, Value> {
        let values: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&self.headers).unwrap_or_default();
        let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::String(raw.get().to_owned()));
        values.into_iter().map(|(name, raw)| (name, value(&raw))).collect()
    }

    /// One header, if it is a string.
    pub fn header(&self, name: &str) -> Option<String> {
        if self.headers.len() <= 2 {
            return None;
        }
        match self.headers().remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The version in which the payload is: that of its contract, or the header `version`, or 1 if there is none. `None`: the header is
    /// no whole number from 1 on.
    pub fn version(&self) -> Option<u32> {
        match &self.contract {
            Some(public) => Some(public.version),
            None => self.recorded_version(),
        }
    }

    /// The version that the producer recorded; see [`Notification::version`].
    pub fn recorded_version(&self) -> Option<u32> {
        // Most events have no such header, and then nothing is parsed. An escape may hide the name.
        if !self.headers.contains("version") && !self.headers.contains('\\') {
            return Some(1);
        }
        let version = match self.headers().remove(VERSION) {
            None => return Some(1),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64().and_then(|version| u32::try_from(version).ok()),
        };
        version.filter(|version| *version > 0)
    }

    /// Bytes this notification holds in memory, near enough to bound them.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.payload.len()
            + self.headers.len()
            + self.event_type.len()
            + [&self.aggregate_type, &self.aggregate_id, &self.key].into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// Stands for an event that could not be read: its sequence number and its id are true, everything else is empty. Never given to a
    /// handler.
    pub fn unread(seq: i64, id: Uuid) -> Self {
        Self {
            seq,
            id,
            event_type: String::new(),
            aggregate_type: None,
            aggregate_id: None,
            aggregate_version: None,
            payload: String::new(),
            headers: String::new(),
            occurred_at: Timestamp::from_micros(0),
            key: None,
            attempt: 1,
            is_replay: false,
            is_test: false,
            contract: None,
        }
    }

    /// A notification for tests and `handlers test`: type and payload, everything else plain.
    pub fn sample(event_type: &str, payload: &str) -> Self {
        Self {
            seq: 1,
            id: Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0001),
            event_type: event_type.to_owned(),
            aggregate_type: Some("order".to_owned()),
            aggregate_id: Some("42".to_owned()),
            aggregate_version: None,
            payload: payload.to_owned(),
            headers: "{}".to_owned(),
            occurred_at: Timestamp::from_micros(1_700_000_000_000_000),
            key: Some("order/42".to_owned()),
            attempt: 1,
            is_replay: false,
            is_test: false,
            contract: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_header_that_is_too_much_does_not_cost_the_others() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let headers = format!(r#"{{"tenant":"a","huge":1e400,"deep":{deep},"n":1}}"#);
        let notification = Notification { headers, ..Notification::sample("t", "{}") };
        assert_eq!(notification.header("tenant").as_deref(), Some("a"), "seen: all headers were gone");
        assert_eq!(notification.headers()["huge"], "1e400");
        assert_eq!((notification.headers()["deep"].as_str(), notification.headers()["n"].as_i64()), (Some(deep.as_str()), Some(1)));
    }

    #[test]
    fn the_version_is_a_header_and_1_without_it() {
        for (headers, want) in [
            ("{}", Some(1)),
            (r#"{"tenant":"a"}"#, Some(1)),
            (r#"{"version":2}"#, Some(2)),
            (r#"{"version":"3"}"#, Some(3)),
            (r#"{"versi\u006fn":4}"#, Some(4)),
            (r#"{"api_version":9}"#, Some(1)),
            (r#"{"version":0}"#, None),
            (r#"{"version":1.5}"#, None),
            (r#"{"version":"v2"}"#, None),
            (r#"{"version":null}"#, None),
            (r#"{"version":1e400}"#, None),
        ] {
            let notification = Notification { headers: headers.to_owned(), ..Notification::sample("t", "{}") };
            assert_eq!(notification.version(), want, "{headers}");
        }
    }
}
