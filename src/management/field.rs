//! The fields of requests, declared once: each with its place, kind and help. The declarations read the request, collect all mistakes of it
//! at once, and make the OpenAPI document.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::{Reason, Timestamp};
use crate::operations::moves::{parse_start, parse_target};
use crate::operations::replays::parse_rate;
use crate::operations::trial::{parse_aggregate, parse_payload};
use crate::operations::{Moment, parse_moment};
use crate::settings::parse_duration;
use crate::store::Fingerprint;

/// One thing that a request may say.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub is_required: bool,
    pub help: &'static str,
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// At most so many bytes, and not only blanks.
    Text(usize),
    Uuid,
    /// In a query the field may be given several times.
    Uuids,
    Count(u32, u32),
    /// A number of deliveries, as a preview told it.
    Expected,
    /// RFC 3339.
    At,
    /// RFC 3339, or how long ago.
    Moment,
    Duration,
    /// Why an attempt failed.
    Reason,
    Group,
    /// Deliveries in a unit of time.
    Rate,
    Flag,
    /// A place in the log, or `now`.
    Start,
    Target,
    /// Type and id.
    Aggregate,
    Object,
    Via,
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    Text(String),
    Uuid(Uuid),
    Uuids(Vec<Uuid>),
    Count(u64),
    At(Timestamp),
    Moment(Moment),
    Duration(Duration),
    Group(Fingerprint),
    Rate(f64),
    Flag(bool),
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Mistake {
    /// `path`, `query` or `body`.
    #[serde(rename = "in")]
    pub place: &'static str,
    pub field: String,
    pub expected: String,
}

impl Field {
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, is_required: false, help }
    }

    pub const fn required(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, is_required: true, help }
    }

    /// From a query or a path, where every value is a text.
    pub fn read_texts(&self, texts: &[String]) -> Result<Given, String> {
        if self.kind == Kind::Uuids {
            let ids: Result<Vec<Uuid>, _> = texts.iter().map(|text| text.parse()).collect();
            return ids.map(Given::Uuids).map_err(|_| self.kind.expected());
        }
        let [text] = texts else { return Err("to be given once".to_owned()) };
        match self.kind {
            Kind::Flag => text.parse().map(Given::Flag).map_err(|_| self.kind.expected()),
            Kind::Count(..) | Kind::Expected => {
                text.parse().ok().and_then(|count| self.kind.count(count)).ok_or_else(|| self.kind.expected())
            }
            kind => kind.text(text),
        }
    }

    /// From a body. A JSON value keeps its text: numbers of a payload are not read.
    pub fn read_json(&self, raw: &RawValue) -> Result<Given, String> {
        let expected = || self.kind.expected();
        if self.kind == Kind::Object {
            return parse_payload(raw.get()).map(Given::Text).map_err(|_| expected());
        }
        match (serde_json::from_str::<Value>(raw.get()).map_err(|_| expected())?, self.kind) {
            (Value::Bool(flag), Kind::Flag) => Ok(Given::Flag(flag)),
            (Value::Number(number), Kind::Count(..) | Kind::Expected) => {
                number.as_u64().and_then(|count| self.kind.count(count)).ok_or_else(expected)
            }
            (Value::Array(values), Kind::Uuids) => {
                let ids: Option<Vec<Uuid>> = values.iter().map(|value| value.as_str()?.parse().ok()).collect();
                ids.map(Given::Uuids).ok_or_else(expected)
            }
            (Value::String(text), kind) => kind.text(&text),
            _ => Err(expected()),
        }
    }

    /// The JSON Schema of a value.
    pub fn schema(&self) -> Value {
        let mut schema = self.kind.schema();
        schema["description"] = json!(self.help);
        schema
    }
}

impl Kind {
    fn count(self, count: u64) -> Option<Given> {
        let is_allowed = match self {
            Self::Count(least, most) => (u64::from(least)..=u64::from(most)).contains(&count),
            _ => (1..=i64::MAX as u64).contains(&count),
        };
        is_allowed.then_some(Given::Count(count))
    }

    fn text(self, text: &str) -> Result<Given, String> {
        // No text of Postgres can hold it.
        if text.contains('\0') {
            return Err("a text without NUL characters".to_owned());
        }
        let given = match self {
            Self::Text(most) => (text.len() <= most && !text.trim().is_empty()).then(|| Given::Text(text.trim().to_owned())),
            Self::Uuid => text.parse().ok().map(Given::Uuid),
            Self::At => text.parse().ok().map(Given::At),
            Self::Moment => parse_moment(text).ok().map(Given::Moment),
            Self::Duration => parse_duration(text).map(Given::Duration),
            Self::Reason => Reason::ALL.iter().any(|reason| reason.as_str() == text).then(|| Given::Text(text.to_owned())),
            Self::Group => text.parse().ok().map(Given::Group),
            Self::Rate => parse_rate(text).ok().map(Given::Rate),
            Self::Start => parse_start(text).ok().map(|place| Given::Text(place.text)),
            Self::Target => parse_target(text).ok().map(|place| Given::Text(place.text)),
            Self::Aggregate => parse_aggregate(text).ok().map(|_| Given::Text(text.to_owned())),
            Self::Via => ["cli", "api", "console"].contains(&text).then(|| Given::Text(text.to_owned())),
            Self::Uuids | Self::Count(..) | Self::Expected | Self::Flag | Self::Object => None,
        };
        given.ok_or_else(|| self.expected())
    }

    /// In words, for a mistake.
    fn expected(self) -> String {
        match self {
            Self::Text(most) => format!("a text of 1 to {most} bytes"),
            Self::Uuid => "a UUID".to_owned(),
            Self::Uuids => "UUIDs".to_owned(),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Expected => "the whole number that the preview told, at least 1".to_owned(),
            Self::At => "a moment such as 2026-01-31T08:00:00Z".to_owned(),
            Self::Moment => "a moment such as 2026-01-31T08:00:00Z, or how long ago, such as 2h".to_owned(),
            Self::Duration => "a duration such as 30m or 2h".to_owned(),
            Self::Reason => "a reason such as timeout or client_error".to_owned(),
            Self::Group => "sixteen hexadecimal digits, as a list of groups shows them".to_owned(),
            Self::Rate => "a rate such as 50/s, 10/m or 1000/h".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Start => "now, beginning, the id of an event, a moment, or how long ago, such as 30m".to_owned(),
            Self::Target => "beginning, the id of an event, a moment, or how long ago, such as 2h".to_owned(),
            Self::Aggregate => "type and id of an aggregate, such as order/42".to_owned(),
            Self::Object => "a JSON object".to_owned(),
            Self::Via => "cli, api or console".to_owned(),
        }
    }

    fn schema(self) -> Value {
        match self {
            Self::Text(most) => json!({ "type": "string", "minLength": 1, "maxLength": most }),
            Self::Uuid => json!({ "type": "string", "format": "uuid" }),
            Self::Uuids => json!({ "type": "array", "items": { "type": "string", "format": "uuid" } }),
            Self::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Self::Expected => json!({ "type": "integer", "format": "int64", "minimum": 1 }),
            Self::At => json!({ "type": "string", "format": "date-time" }),
            Self::Moment => json!({ "type": "string", "examples": ["2026-01-31T08:00:00Z", "2h"] }),
            Self::Duration => json!({ "type": "string", "examples": ["30m"] }),
            Self::Reason => {
                json!({ "type": "string", "enum": Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>() })
            }
            Self::Group => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{16}$" }),
            Self::Rate => json!({ "type": "string", "pattern": "^[0-9]+/[smh]$", "examples": ["50/s"] }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Start | Self::Target => json!({ "type": "string", "examples": ["2h"] }),
            Self::Aggregate => json!({ "type": "string", "pattern": "/" }),
            Self::Object => json!({ "type": "object" }),
            Self::Via => json!({ "type": "string", "enum": ["cli", "api", "console"] }),
        }
    }
}

/// The values of a request by the names of their fields, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Input {
    given: BTreeMap<&'static str, Given>,
    pub mistakes: Vec<Mistake>,
}

impl Input {
    /// Reads the texts of a query or a path. A name that is not declared is a mistake.
    pub fn add_texts(&mut self, place: &'static str, fields: &'static [Field], texts: &[(String, String)]) {
        for (name, _) in texts {
            if !fields.iter().any(|field| field.name == name) {
                self.unknown(place, name, fields);
            }
        }
        for field in fields {
            let values: Vec<String> = texts.iter().filter(|(name, _)| name == field.name).map(|(_, value)| value.clone()).collect();
            let read = (!values.is_empty()).then(|| field.read_texts(&values));
            self.add(place, field, read);
        }
    }

    /// Reads the members of a body.
    pub fn add_members(&mut self, fields: &'static [Field], members: &BTreeMap<String, Box<RawValue>>) {
        for name in members.keys().filter(|name| !fields.iter().any(|field| field.name == name.as_str())) {
            self.unknown("body", name, fields);
        }
        for field in fields {
            // `null` is how some clients say that they say nothing.
            let raw = members.get(field.name).filter(|raw| raw.get() != "null");
            self.add("body", field, raw.map(|raw| field.read_json(raw)));
        }
    }

    fn add(&mut self, place: &'static str, field: &Field, read: Option<Result<Given, String>>) {
        match read {
            Some(Ok(given)) => drop(self.given.insert(field.name, given)),
            Some(Err(expected)) => self.mistake(place, field.name, expected),
            None if field.is_required => self.mistake(place, field.name, format!("{}; it is required", field.kind.expected())),
            None => {}
        }
    }

    fn unknown(&mut self, place: &'static str, name: &str, fields: &[Field]) {
        let near = crate::operations::nearest(name, fields.iter().map(|field| field.name));
        let expected = near.map_or_else(|| "no such field".to_owned(), |near| format!("no such field; did you mean {near}?"));
        let shown: String = name.chars().take(64).collect();
        self.mistake(place, &shown, expected);
    }

    pub fn mistake(&mut self, place: &'static str, field: &str, expected: impl Into<String>) {
        self.mistakes.push(Mistake { place, field: field.to_owned(), expected: expected.into() });
    }

    pub fn text(&self, name: &str) -> Option<String> {
        match self.given.get(name) {
            Some(Given::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    pub fn uuid(&self, name: &str) -> Option<Uuid> {
        match self.given.get(name) {
            Some(Given::Uuid(id)) => Some(*id),
            _ => None,
        }
    }

    pub fn uuids(&self, name: &str) -> Vec<Uuid> {
        match self.given.get(name) {
            Some(Given::Uuids(ids)) => ids.clone(),
            _ => Vec::new(),
        }
    }

    pub fn count(&self, name: &str) -> Option<u64> {
        match self.given.get(name) {
            Some(Given::Count(count)) => Some(*count),
            _ => None,
        }
    }

    pub fn at(&self, name: &str) -> Option<Timestamp> {
        match self.given.get(name) {
            Some(Given::At(at)) => Some(*at),
            _ => None,
        }
    }

    pub fn moment(&self, name: &str) -> Option<Moment> {
        match self.given.get(name) {
            Some(Given::Moment(moment)) => Some(*moment),
            _ => None,
        }
    }

    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.given.get(name) {
            Some(Given::Duration(duration)) => Some(*duration),
            _ => None,
        }
    }

    pub fn group(&self, name: &str) -> Option<Fingerprint> {
        match self.given.get(name) {
            Some(Given::Group(group)) => Some(*group),
            _ => None,
        }
    }

    pub fn rate(&self, name: &str) -> Option<f64> {
        match self.given.get(name) {
            Some(Given::Rate(rate)) => Some(*rate),
            _ => None,
        }
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.given.get(name), Some(Given::Flag(true)))
    }
}
