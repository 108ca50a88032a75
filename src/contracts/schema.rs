//! Schemas: the JSON Schema of a version, compiled once. Nothing is ever fetched: a reference leads inside the schema or is
//! refused. Patterns run in linear time, so no text of a producer can make a validation explode. A long file: the checks of a
//! schema stand beside the validation by it.

use std::collections::BTreeSet;
use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::tree::{JsonType, Member, Node};

/// Beyond this a schema is refused unread: compiling one of many megabytes would hold up every start.
pub const LARGEST_SCHEMA: usize = 1 << 20;
/// Beyond this depth a schema or an example is refused.
const DEEPEST: usize = 100;
/// Beyond this depth a payload is not checked, and so not sent in another version.
const DEEPEST_PAYLOAD: usize = 127;
/// Compiled size of one pattern at most.
const LARGEST_PATTERN: usize = 1 << 20;
/// Problems that are reported of one document; more would not be read.
const MOST_TOLD: usize = 3;

/// A JSON Schema that has been checked and compiled. Draft 2020-12 unless `$schema` says otherwise.
pub struct Schema {
    text: String,
    value: Value,
    validator: Validator,
}

/// Why a text is no usable schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchema {
    #[error("has {0} bytes, expected at most {LARGEST_SCHEMA}")]
    TooLarge(usize),
    #[error("is no JSON: {0}")]
    Syntax(String),
    #[error("got {0}, expected a JSON Schema of an object: payloads are objects")]
    NoObject(String),
    #[error("is nested deeper than {DEEPEST} levels")]
    TooDeep,
    #[error("the reference \"{0}\" leads outside; expected one such as \"#/$defs/line\": nothing is fetched")]
    Remote(String),
    #[error("the reference \"{0}\" leads to nothing in this schema")]
    Dangling(String),
    #[error("the reference \"{0}\" leads back to itself without anything in between, so no value could be checked")]
    Cyclic(String),
    #[error("the pattern \"{0}\" cannot be used: {1}")]
    Pattern(String, String),
    #[error("{0}")]
    Refused(String),
}

impl Schema {
    /// Reads and compiles a schema. Every problem that can be told apart is in the list.
    pub fn parse(text: &str) -> Result<Self, Vec<InvalidSchema>> {
        if text.len() > LARGEST_SCHEMA {
            return Err(vec![InvalidSchema::TooLarge(text.len())]);
        }
        let value: Value = serde_json::from_str(text).map_err(|error| vec![InvalidSchema::Syntax(error.to_string())])?;
        Self::of(text.to_owned(), value)
    }

    /// [`Schema::parse`] of a value, for parts of a schema and tests; any type of value may be described.
    pub(super) fn of_value(value: Value) -> Result<Self, Vec<InvalidSchema>> {
        let validator = compile(&value).map_err(|invalid| vec![invalid])?;
        Ok(Self { text: value.to_string(), value, validator })
    }

    fn of(text: String, value: Value) -> Result<Self, Vec<InvalidSchema>> {
        if !value.is_object() {
            return Err(vec![InvalidSchema::NoObject(describe(&value).to_owned())]);
        }
        let mut found = Vec::new();
        if depth(&value) > DEEPEST {
            return Err(vec![InvalidSchema::TooDeep]);
        }
        look_through(&value, &value, &mut found);
        if !found.is_empty() {
            return Err(found);
        }
        let validator = compile(&value).map_err(|invalid| vec![invalid])?;
        Ok(Self { text, value, validator })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether the value is valid.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Checks a JSON text. The error names places and rules, and never repeats a value of the document.
    pub fn validate(&self, json: &str) -> Result<(), Invalid> {
        let value = match serde_json::from_str::<Value>(json) {
            Ok(value) => value,
            Err(error) => {
                read_leniently(&mut Node::recorded(json), 0).ok_or_else(|| Invalid(vec![format!("it cannot be read: {error}")]))?
            }
        };
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        let told = self.validator.iter_errors(&value).take(MOST_TOLD).map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the payload".to_owned() } else { place };
            format!("{place}: {}", bounded(&error.masked_with("the value").to_string()))
        });
        Err(Invalid(told.collect()))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

/// A document with numbers beyond every float, which count as the largest, or texts that are no Unicode, which lose what is none. `None`: it
/// is no JSON, or too deep.
fn read_leniently(node: &mut Node<'_>, depth: usize) -> Option<Value> {
    if depth > DEEPEST_PAYLOAD {
        return None;
    }
    Some(match node.json_type() {
        JsonType::Object => {
            let members = node.members().ok()??;
            let member = |member: &mut Member<'_>| Some((member.decoded_name(), read_leniently(&mut member.value, depth + 1)?));
            Value::Object(members.iter_mut().map(member).collect::<Option<_>>()?)
        }
        JsonType::List => {
            let items = node.items().ok()??;
            Value::Array(items.iter_mut().map(|item| read_leniently(item, depth + 1)).collect::<Option<_>>()?)
        }
        _ => {
            let text = node.scalar()?;
            match (serde_json::from_str(text), node.json_type()) {
                (Ok(value), _) => value,
                (Err(_), JsonType::Number) => {
                    serde_json::from_str::<&RawValue>(text).ok()?;
                    Value::from(if text.starts_with('-') { f64::MIN } else { f64::MAX })
                }
                (Err(_), JsonType::Text) => {
                    let bytes: Vec<u8> = serde_json::from_str::<Bytes>(text).ok()?.0;
                    Value::from(String::from_utf8_lossy(&bytes).into_owned())
                }
                (Err(_), _) => return None,
            }
        }
    })
}

/// The bytes of a JSON text, also where an escape stands for half a character.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyBytes;
        impl Visitor<'_> for AnyBytes {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(AnyBytes)
    }
}

/// Why a document is not valid: at most three places, each with the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Invalid(pub Vec<String>);

/// Finds nothing: every reference outside the schema is refused before, and this is the second lock.
struct Nowhere;

impl jsonschema::Retrieve for Nowhere {
    fn retrieve(&self, uri: &jsonschema::Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} is outside the schema, and nothing is fetched").into())
    }
}

fn compile(schema: &Value) -> Result<Validator, InvalidSchema> {
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex().size_limit(LARGEST_PATTERN))
        .with_retriever(Nowhere)
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| InvalidSchema::Refused(bounded(&error.to_string())))
}

fn bounded(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Keywords whose value is data and no schema.
pub(super) const DATA: &[&str] = &["const", "enum", "default", "examples", "example"];
/// Keywords whose value has a schema under each of the producer's own names: none of these is a keyword, whatever it looks like.
pub(super) const NAMED: &[&str] = &["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];

/// What stands directly inside a schema and can be or hold schemas.
fn inner(members: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    members.iter().filter(|(name, _)| !DATA.contains(&name.as_str())).flat_map(|(name, member)| match member {
        Value::Object(named) if NAMED.contains(&name.as_str()) => named.values().collect(),
        Value::Array(items) => items.iter().collect(),
        other => vec![other],
    })
}

/// Reports references and patterns that cannot be used.
fn look_through(root: &Value, value: &Value, found: &mut Vec<InvalidSchema>) {
    let Value::Object(members) = value else { return };
    for (name, member) in members {
        match (name.as_str(), member) {
            ("$ref", Value::String(reference)) => found.extend(check_reference(root, reference)),
            ("$dynamicRef" | "$recursiveRef", Value::String(reference)) if reference != "#" => {
                found.push(InvalidSchema::Remote(reference.clone()));
            }
            ("pattern", Value::String(pattern)) => found.extend(check_pattern(pattern)),
            ("patternProperties", Value::Object(patterns)) => {
                found.extend(patterns.keys().filter_map(|pattern| check_pattern(pattern)));
            }
            _ => {}
        }
    }
    inner(members).for_each(|inner| look_through(root, inner, found));
}

fn check_pattern(pattern: &str) -> Option<InvalidSchema> {
    let schema = serde_json::json!({ "pattern": pattern });
    let problem = compile(&schema).err()?;
    let why = match problem {
        InvalidSchema::Refused(_) if pattern.contains("(?") || has_back_reference(pattern) => {
            "look-around and back-references are not supported, because they can take for ever".to_owned()
        }
        _ => format!("it is no regular expression, or compiles to more than {LARGEST_PATTERN} bytes"),
    };
    Some(InvalidSchema::Pattern(bounded(pattern), why))
}

fn has_back_reference(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    bytes.windows(2).any(|pair| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]))
}

/// Follows a reference to its end.
fn check_reference(root: &Value, reference: &str) -> Option<InvalidSchema> {
    if !reference.starts_with('#') {
        return Some(InvalidSchema::Remote(reference.to_owned()));
    }
    let mut seen = BTreeSet::from([reference]);
    let mut at = reference;
    loop {
        let Some(target) = resolve(root, at) else { return Some(InvalidSchema::Dangling(reference.to_owned())) };
        // A reference whose target is nothing but the next one.
        let only = target.as_object().filter(|members| members.len() == 1).and_then(|members| members.get("$ref"));
        let next = only.and_then(Value::as_str)?;
        if !seen.insert(next) {
            return Some(InvalidSchema::Cyclic(reference.to_owned()));
        }
        at = next;
    }
}

/// What a reference inside the schema leads to: `#`, `#/$defs/a`, or the `$anchor` or `$id` of a part.
pub(super) fn resolve<'v>(root: &'v Value, reference: &str) -> Option<&'v Value> {
    let fragment = reference.strip_prefix('#')?;
    if fragment.is_empty() {
        return Some(root);
    }
    if fragment.starts_with('/') {
        let fragment = percent_decoded(fragment);
        return root.pointer(&fragment);
    }
    find_anchor(root, fragment, reference)
}

fn find_anchor<'v>(value: &'v Value, anchor: &str, id: &str) -> Option<&'v Value> {
    let members = value.as_object()?;
    let is_named = |name: &str, want: &str| members.get(name).and_then(Value::as_str) == Some(want);
    if is_named("$anchor", anchor) || is_named("$dynamicAnchor", anchor) || is_named("$id", id) {
        return Some(value);
    }
    inner(members).find_map(|member| find_anchor(member, anchor, id))
}

pub(super) fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        Schema::parse(text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_schema_that_cannot_be_used_says_why() {
        for (text, want) in [
            ("{", "is no JSON: EOF"),
            ("[]", "got a list, expected a JSON Schema of an object"),
            ("true", "got a boolean, expected a JSON Schema"),
            (r#"{"type":"objekt"}"#, ""),
            (
                r##"{"properties":{"a":{"$ref":"https://example.org/a.json"}}}"##,
                "the reference \"https://example.org/a.json\" leads outside",
            ),
            (
                r##"{"properties":{"default":{"$ref":"https://example.org/a.json"}}}"##,
                "the reference \"https://example.org/a.json\" leads outside",
            ),
            (
                r##"{"properties":{"const":{"$ref":"#/properties/const"}}}"##,
                "the reference \"#/properties/const\" leads back to itself",
            ),
            (r#"{"properties":{"const":{"pattern":"^(?=x)a"}}}"#, "the pattern \"^(?=x)a\" cannot be used: look-around"),
            (r##"{"properties":{"a":{"$ref":"other.json#/x"}}}"##, "the reference \"other.json#/x\" leads outside"),
            (r##"{"properties":{"a":{"$ref":"#/$defs/b"}}}"##, "the reference \"#/$defs/b\" leads to nothing"),
            (
                r##"{"properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{"$ref":"#/$defs/b"}}}"##,
                "the reference \"#/$defs/b\" leads back to itself",
            ),
            (r#"{"properties":{"a":{"pattern":"(a"}}}"#, "the pattern \"(a\" cannot be used: it is no regular expression"),
            (r#"{"properties":{"a":{"pattern":"^(?=x)a"}}}"#, "the pattern \"^(?=x)a\" cannot be used: look-around"),
            (
                r#"{"properties":{"a":{"pattern":"(((a{100}){100}){100}){100}"}}}"#,
                "the pattern \"(((a{100}){100}){100}){100}\" cannot be used",
            ),
        ] {
            let problems = problems(text);
            assert!(!problems.is_empty() && problems[0].starts_with(want), "{text}: {problems:?}");
        }
    }

    #[test]
    fn a_schema_that_is_too_large_or_too_deep_is_refused_unread() {
        let large = format!("{{\"description\":\"{}\"}}", "x".repeat(10 << 20));
        assert!(problems(&large)[0].starts_with("has 10485"));
        let deep = format!("{}{{}}{}", "{\"not\":".repeat(110), "}".repeat(110));
        assert_eq!(problems(&deep), ["is nested deeper than 100 levels"]);
        let deeper = format!("{}{{}}{}", "{\"not\":".repeat(10_000), "}".repeat(10_000));
        assert!(problems(&deeper)[0].starts_with("is no JSON: recursion limit"));
    }

    #[test]
    fn a_recursive_schema_is_no_cycle() {
        let text =
            r##"{"type":"object","properties":{"children":{"type":"array","items":{"$ref":"#"}}},"additionalProperties":false}"##;
        let schema = Schema::parse(text).expect("valid");
        assert!(schema.validate(r#"{"children":[{"children":[]}]}"#).is_ok());
        assert!(schema.validate(r#"{"children":[{"child":[]}]}"#).is_err());
    }

    #[test]
    fn what_is_invalid_is_told_without_its_value() {
        let schema =
            Schema::parse(r#"{"properties":{"card":{"type":"string","maxLength":3},"n":{"type":"integer"}}}"#).expect("valid");
        let invalid = schema.validate(r#"{"card":"4111 1111","n":"4242"}"#).expect_err("both are wrong").to_string();
        assert!(invalid.contains("/card: ") && invalid.contains("/n: "), "{invalid}");
        assert!(!invalid.contains("4111") && !invalid.contains("4242"), "{invalid}");
    }

    #[test]
    fn numbers_beyond_every_float_and_halves_of_characters_are_checked_all_the_same() {
        let schema = Schema::parse(r#"{"required":["s"],"properties":{"n":{"maximum":9},"s":{"type":"string"}}}"#).expect("valid");
        assert!(schema.validate(r#"{"x":[1e400,{"y":-1e999}],"s":"\ud800 a"}"#).is_ok());
        assert!(schema.validate(r#"{"n":-1e400,"s":""}"#).is_ok());
        assert!(schema.validate(r#"{"n":1e400,"s":""}"#).is_err());
        assert!(schema.validate(r#"{"x":1e400}"#).is_err());
        for text in ["", "{", "{\"a\":}", "{\"s\":\"\", \"a\": 1e}"] {
            assert!(schema.validate(text).is_err(), "{text}");
        }
        let deep = format!("{{\"s\":\"\",\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(schema.validate(&deep).is_err(), "too deep to be checked");
    }

    #[test]
    fn a_pattern_that_explodes_elsewhere_takes_no_time() {
        let schema = Schema::parse(r#"{"properties":{"a":{"type":"string","pattern":"^(a+)+$"}}}"#).expect("valid");
        let text = format!("{{\"a\":\"{}!\"}}", "a".repeat(50_000));
        assert!(schema.validate(&text).is_err());
    }
}
