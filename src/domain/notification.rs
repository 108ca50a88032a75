//! What a handler receives for one event: the event as recorded, and the facts of this delivery.

#![warn(missing_docs)]

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Timestamp;

/// The envelope of one event on its way to one handler.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Internal order; never shown to a receiver.
    pub seq: i64,
    /// Public idempotency key: the same on every attempt and replay.
    pub id: Uuid,
    /// 1 to 255 bytes, any characters.
    pub event_type: String,
    /// What kind of thing it happened to, for example `order`.
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
    /// A person asked for this delivery again.
    pub is_replay: bool,
    /// Nothing has happened: a person tries the handler with a made-up event.
    pub is_test: bool,
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

    /// Bytes this notification holds in memory, near enough to bound them.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.payload.len()
            + self.headers.len()
            + self.event_type.len()
            + [&self.aggregate_type, &self.aggregate_id, &self.key].into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// What stands for an event that could not be read: its number and its id are true, everything else is empty. Never given to a
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
}
