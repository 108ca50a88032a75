//! Templates: texts of the configuration with values of the event in them, `orders.{type}.{header:tenant}`. The text is checked
//! when the configuration is loaded; at run time only an event without the value can fail. There are no conditions and no
//! functions; an application computes such values and records them with the event.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::{Notification, Reason, Verdict};
use crate::settings::Section;

/// A text with places for values of an event. `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Source),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Id,
    Type,
    Version,
    Key,
    AggregateType,
    AggregateId,
    Header(String),
    Payload(Vec<String>),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    #[error("a \"{{\" is never closed; a brace itself is written \"{{{{\"")]
    Unclosed,
    #[error("a \"}}\" closes nothing; a brace itself is written \"}}}}\"")]
    Unopened,
    #[error("{{{0}}} names no value; there are {KNOWN}")]
    Unknown(String),
}

/// The event has nothing to put in the place of this value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event has no {0}")]
pub struct MissingValue(String);

const KNOWN: &str = "{id}, {type}, {version}, {key}, {aggregate_type}, {aggregate_id}, {header:<name>} and {payload:<a.b.c>}";

impl Template {
    /// The rendered text for this event, if it depends on the event.
    pub fn destination(&self, notification: &Notification) -> Option<String> {
        if self.constant().is_some() {
            return None;
        }
        self.render(notification).ok().map(Cow::into_owned)
    }

    /// Reads a text; an empty one is a template that is always empty.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(place) = rest.find(['{', '}']) {
            literal.push_str(&rest[..place]);
            let (brace, after) = rest[place..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(InvalidTemplate::Unopened);
            }
            let (name, after) = after.split_once('}').ok_or(InvalidTemplate::Unclosed)?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Value(Source::parse(name).ok_or_else(|| InvalidTemplate::Unknown(name.to_owned()))?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// The template in this setting. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>, name: &str) -> Option<Self> {
        Self::parse(&section.text(name)).map_err(|invalid| section.mistake(name, &invalid.to_string())).ok()
    }

    /// The whole text, if no event changes it.
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The parts that no event changes, to be checked for what the receiver does not take.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Value(_) => None,
        })
    }

    /// The text for one event.
    pub fn render<'t>(&'t self, notification: &'t Notification) -> Result<Cow<'t, str>, MissingValue> {
        if let [part] = self.parts.as_slice() {
            return part.render(notification);
        }
        let mut text = String::new();
        for part in &self.parts {
            text.push_str(&part.render(notification)?);
        }
        Ok(Cow::Owned(text))
    }
}

impl Template {
    /// [`Template::render`] with `encode` over each value of the event; the configured text stays as it is.
    pub fn render_encoded(&self, notification: &Notification, encode: fn(&str) -> Cow<'_, str>) -> Result<String, MissingValue> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Value(_) => text.push_str(&encode(&part.render(notification)?)),
            }
        }
        Ok(text)
    }
}

impl MissingValue {
    /// The verdict for the event: no attempt will ever have the value. `setting` is where the template stands.
    pub fn verdict(&self, setting: &str) -> Verdict {
        Verdict::permanent(Reason::Unaddressable, format!("{self}, which {setting} needs"))
    }
}

impl Part {
    fn render<'t>(&'t self, notification: &'t Notification) -> Result<Cow<'t, str>, MissingValue> {
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text)),
            Self::Value(source) => source.value(notification).ok_or_else(|| MissingValue(source.name())),
        }
    }
}

impl Source {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "type" => Self::Type,
            "version" => Self::Version,
            "key" => Self::Key,
            "aggregate_type" => Self::AggregateType,
            "aggregate_id" => Self::AggregateId,
            _ => match name.split_once(':')? {
                ("header", header) if !header.is_empty() => Self::Header(header.to_owned()),
                ("payload", path) => {
                    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
                    path.iter().all(|part| !part.is_empty()).then_some(Self::Payload(path))?
                }
                _ => return None,
            },
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Id => "id".to_owned(),
            Self::Type => "type".to_owned(),
            Self::Version => "version: its header \"version\" is no whole number from 1 on".to_owned(),
            Self::Key => "key".to_owned(),
            Self::AggregateType => "aggregate_type".to_owned(),
            Self::AggregateId => "aggregate_id".to_owned(),
            Self::Header(name) => format!("header \"{name}\" with a text, number or boolean"),
            Self::Payload(path) => format!("text, number or boolean at \"{}\" of its payload", path.join(".")),
        }
    }

    fn value<'t>(&self, notification: &'t Notification) -> Option<Cow<'t, str>> {
        match self {
            Self::Id => Some(Cow::Owned(notification.id.to_string())),
            Self::Type => Some(Cow::Borrowed(&notification.event_type)),
            Self::Version => notification.version().map(|version| Cow::Owned(version.to_string())),
            Self::Key => notification.key.as_deref().map(Cow::Borrowed),
            Self::AggregateType => notification.aggregate_type.as_deref().map(Cow::Borrowed),
            Self::AggregateId => notification.aggregate_id.as_deref().map(Cow::Borrowed),
            Self::Header(name) => scalar_at(&notification.headers, std::slice::from_ref(name)).map(Cow::Owned),
            Self::Payload(path) => scalar_at(&notification.payload, path).map(Cow::Owned),
        }
    }
}

/// A JSON object whose values are still text.
pub type RawObject<'j> = HashMap<Cow<'j, str>, &'j RawValue>;

/// The members of a JSON object, their values unparsed.
pub fn object(json: &str) -> Option<RawObject<'_>> {
    serde_json::from_str(json).ok()
}

/// The text of a JSON scalar, as it is written there: a number keeps its digits. `None` for null, a list or an object.
pub fn scalar(json: &str) -> Option<String> {
    match serde_json::from_str(json).ok()? {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(json.trim().to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// For each list of spellings the first that the JSON object has with a scalar. The object is parsed once.
pub fn scalars<const N: usize>(json: &str, wanted: [&[&str]; N]) -> [Option<String>; N] {
    // Most events have no headers at all: `{}`.
    let object = if json.len() > 2 { object(json) } else { None };
    wanted.map(|spellings| spellings.iter().find_map(|name| scalar(object.as_ref()?.get(*name)?.get())))
}

/// The scalar at this path of a JSON object. Nothing beside the path is parsed.
fn scalar_at(json: &str, path: &[String]) -> Option<String> {
    match path {
        [] => scalar(json),
        [name, deeper @ ..] => scalar_at(object(json)?.get(name.as_str())?.get(), deeper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event() -> Notification {
        Notification {
            headers: r#"{"tenant":"acme","n":7,"x":null}"#.to_owned(),
            ..Notification::sample("order.placed", r#"{"order":{"customer":"c-1","big":9007199254740993,"é":true},"list":[1]}"#)
        }
    }

    fn render(text: &str) -> Result<String, String> {
        let template = Template::parse(text).map_err(|invalid| invalid.to_string())?;
        template.render(&event()).map(Cow::into_owned).map_err(|missing| missing.to_string())
    }

    #[test]
    fn every_value_has_its_place() {
        for (text, want) in [
            ("", ""),
            ("orders", "orders"),
            ("{type}", "order.placed"),
            ("{type}.v{version}", "order.placed.v1"),
            ("{id}", "018f0000-0000-7000-8000-000000000001"),
            ("a.{aggregate_type}.{aggregate_id}/{key}", "a.order.42/order/42"),
            ("{header:tenant}-{header:n}", "acme-7"),
            ("{payload:order.customer} {payload:order.big} {payload:order.é}", "c-1 9007199254740993 true"),
            ("{{type}} }}{{", "{type} }{"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, want) in [
            ("{", "a \"{\" is never closed; a brace itself is written \"{{\""),
            ("a{type", "a \"{\" is never closed; a brace itself is written \"{{\""),
            ("type}", "a \"}\" closes nothing; a brace itself is written \"}}\""),
            ("{typ}", "{typ} names no value; there are {id}, {type}, {version}, {key}"),
            ("{header:}", "{header:} names no value"),
            ("{payload:a..b}", "{payload:a..b} names no value"),
            ("{}", "{} names no value"),
        ] {
            let invalid = render(text).expect_err(text);
            assert!(invalid.starts_with(want), "{text}: {invalid}");
        }
    }

    #[test]
    fn a_value_that_the_event_has_not_is_named() {
        for text in ["{header:x}", "{header:user}", "{payload:order}", "{payload:list}", "{payload:order.customer.name}"] {
            assert!(render(text).expect_err(text).starts_with("the event has no "), "{text}");
        }
        let verdict = MissingValue("key".to_owned()).verdict("routing_key");
        assert_eq!(verdict.detail, "the event has no key, which routing_key needs");
    }

    #[test]
    fn what_no_event_changes_is_known() {
        let parse = |text| Template::parse(text).expect("valid");
        assert_eq!(parse("orders.{{x}}").constant(), Some("orders.{x}"));
        assert_eq!(parse("a{type}b").constant(), None);
        assert_eq!(parse("a{type}b{id}").literals().collect::<Vec<_>>(), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", payload in ".*") {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.render(&Notification::sample("t", &payload));
            }
        }

        #[test]
        fn a_text_with_doubled_braces_is_itself(text in ".*") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            let template = Template::parse(&escaped).expect("every brace is doubled");
            prop_assert_eq!(template.constant(), Some(text.as_str()));
        }
    }
}
