//! An event as an application records it, before the database gives it a sequence number. The table repeats every check made
//! here, for producers in other languages.

#![warn(missing_docs)]

use uuid::Uuid;

/// A notification of something that happened, to be inserted in the transaction that made it happen.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub(crate) id: Uuid,
    pub(crate) event_type: String,
    pub(crate) aggregate_type: Option<String>,
    pub(crate) aggregate_id: Option<String>,
    pub(crate) aggregate_version: Option<i64>,
    pub(crate) payload: serde_json::Value,
    pub(crate) headers: serde_json::Map<String, serde_json::Value>,
    pub(crate) occurred_at: Option<std::time::SystemTime>,
    pub(crate) contract: Option<ContractOfEvent>,
    /// Shredded values of the payload, which has marks in their places until they are sealed.
    pub(crate) shredded: Vec<ClearValue>,
}

/// The name in the JSON form of a shredded value.
pub(crate) const SHREDDED: &str = "$shredded";

/// A shredded value that waits to be sealed.
#[derive(Clone)]
pub(crate) struct ClearValue {
    /// What stands in its place.
    pub mark: String,
    pub subject: String,
    /// Its JSON text; `None`: it is forgotten.
    pub clear: Option<String>,
}

// Never the value.
impl std::fmt::Debug for ClearValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClearValue").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The contract that an event was made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContractOfEvent {
    #[cfg_attr(not(feature = "daemon"), expect(dead_code, reason = "the validator belongs to the daemon"))]
    pub version: u32,
    /// A JSON Schema of the payload, as its text.
    #[cfg_attr(not(feature = "daemon"), expect(dead_code, reason = "the validator belongs to the daemon"))]
    pub schema: Option<&'static str>,
}

/// Why an event cannot be recorded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidEvent {
    /// There is no type.
    #[error("the event has no type; name what happened, for example \"order.placed\"")]
    NoType,
    /// The type has this many bytes.
    #[error("the event type has {0} bytes, 255 are allowed")]
    LongType(usize),
    /// The payload of an event of this type is a list, a text, a number or null.
    #[error("the payload of event \"{0}\" is not a JSON object; wrap the value: {{\"value\": ...}}")]
    PayloadIsNoObject(String),
}

impl NewEvent {
    /// An event of this type. `payload` must be a JSON object; `event_type` has 1 to 255 bytes. The id is a fresh UUIDv7.
    pub fn new(event_type: impl Into<String>, payload: serde_json::Value) -> Result<Self, InvalidEvent> {
        let event_type = event_type.into();
        match event_type.len() {
            0 => return Err(InvalidEvent::NoType),
            1..=255 => {}
            long => return Err(InvalidEvent::LongType(long)),
        }
        if !payload.is_object() {
            return Err(InvalidEvent::PayloadIsNoObject(event_type));
        }
        Ok(Self {
            id: Uuid::now_v7(),
            event_type,
            aggregate_type: None,
            aggregate_id: None,
            aggregate_version: None,
            payload,
            headers: serde_json::Map::new(),
            occurred_at: None,
            contract: None,
            shredded: Vec::new(),
        })
    }

    /// The aggregate the event belongs to; events of one aggregate are delivered in order.
    #[must_use]
    pub fn aggregate(mut self, aggregate_type: impl Into<String>, aggregate_id: impl ToString) -> Self {
        self.aggregate_type = Some(aggregate_type.into());
        self.aggregate_id = Some(aggregate_id.to_string());
        self
    }

    /// The version the aggregate has after this event, for event-sourced aggregates.
    #[must_use]
    pub fn aggregate_version(mut self, version: i64) -> Self {
        self.aggregate_version = Some(version);
        self
    }

    /// Adds a header, for example `traceparent` or `tenant`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into().into());
        self
    }

    /// When it happened. The default is the database's clock. Retention counts from it.
    #[must_use]
    pub fn occurred_at(mut self, moment: std::time::SystemTime) -> Self {
        self.occurred_at = Some(moment);
        self
    }

    /// Replaces the id, for a producer that has its own idempotency key.
    #[must_use]
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// The public idempotency key: the same on every attempt and replay.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_without_a_type_or_an_object_is_refused() {
        assert_eq!(NewEvent::new("", json!({})).unwrap_err(), InvalidEvent::NoType);
        assert_eq!(NewEvent::new("x".repeat(256), json!({})).unwrap_err(), InvalidEvent::LongType(256));
        assert_eq!(NewEvent::new("a", json!([1])).unwrap_err(), InvalidEvent::PayloadIsNoObject("a".into()));
        assert!(NewEvent::new("a", json!({})).is_ok());
    }
}
