//! The envelope: the JSON form of a shredded value, and how envelopes are found in a payload. Knows no key.
//!
//! `{"$shredded":{"v":1,"subject":"customer/42","key":"<uuid>","field":"/email","nonce":"<base64>","data":"<base64>"}}`, or, for a value that
//! had been forgotten when it was written, `{"$shredded":{"v":1,"subject":"customer/42","forgotten":true}}`.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use uuid::Uuid;

/// The one name in the outer object.
pub(super) use crate::domain::SHREDDED as NAME;

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;

/// A shredded value in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope {
    #[serde(rename = "$shredded")]
    pub inner: Inner,
}

/// What stands in it. Every field that is not there is `None`, so that a damaged envelope is told by what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inner {
    pub v: u32,
    pub subject: String,
    #[serde(default, deserialize_with = "read_key", skip_serializing_if = "Option::is_none")]
    pub key: Option<Uuid>,
    /// JSON pointer of the place in the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<bool>,
}

/// Reads the id of a key in the form that is written. An envelope has one form only, so that each changed byte is noticed.
fn read_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let key = Uuid::parse_str(&text).ok().filter(|key| key.to_string() == text);
    key.map(Some).ok_or_else(|| de::Error::custom("the key is not a UUID in lower case with hyphens"))
}

impl Envelope {
    /// For a value that is forgotten.
    pub(super) fn forgotten(subject: String) -> Self {
        Self { inner: Inner { v: VERSION, subject, forgotten: Some(true), ..Inner::default() } }
    }
}

/// Calls for every object in a tree that has the name of an envelope, with the JSON pointer of the object. What stands inside of such an object is not
/// looked at.
pub(super) fn for_each(tree: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    walk(tree, &mut String::new(), visit);
}

fn walk(tree: &mut Value, pointer: &mut String, visit: &mut impl FnMut(&str, &mut Value)) {
    if tree.get(NAME).is_some() {
        return visit(pointer, tree);
    }
    let length = pointer.len();
    let mut step = |part: &str, below: &mut Value| {
        pointer.push('/');
        pointer.push_str(part);
        walk(below, pointer, visit);
        pointer.truncate(length);
    };
    match tree {
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, below)| step(&name.replace('~', "~0").replace('/', "~1"), below));
        }
        Value::Array(items) => items.iter_mut().enumerate().for_each(|(place, below)| step(&place.to_string(), below)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn envelopes_are_found_at_every_depth_with_their_pointer() {
        let mut tree =
            json!({ "a": { NAME: 1 }, "b/c~d": [0, { "e": { NAME: { NAME: 2 } } }], "f": NAME, "g": [[{ NAME: null }]] });
        let mut found = Vec::new();
        for_each(&mut tree, &mut |pointer, _| found.push(pointer.to_owned()));
        assert_eq!(found, ["/a", "/b~1c~0d/1/e", "/g/0/0"]);
        for pointer in &found {
            assert!(tree.pointer(pointer).is_some_and(|object| object.get(NAME).is_some()), "{pointer}");
        }
    }

    #[test]
    fn the_id_of_a_key_has_one_form() {
        let read = |key: &str| {
            let text = format!(r#"{{"$shredded":{{"v":1,"subject":"s","key":{key}}}}}"#);
            serde_json::from_str::<Envelope>(&text).map(|envelope| envelope.inner.key)
        };
        let key = Uuid::from_u128(0xabcd_ef12);
        assert_eq!(read(&format!("\"{key}\"")).ok(), Some(Some(key)));
        assert_eq!(read("null").ok(), Some(None));
        for other in [key.simple().to_string(), key.braced().to_string(), key.urn().to_string(), key.to_string().to_uppercase()] {
            assert!(read(&format!("\"{other}\"")).is_err(), "{other}");
        }
    }

    #[test]
    fn an_envelope_is_read_as_it_was_written_and_a_strange_field_is_refused() {
        let envelope = Envelope::forgotten("customer/42".to_owned());
        let text = serde_json::to_string(&envelope).expect("it has a JSON form");
        assert_eq!(text, r#"{"$shredded":{"v":1,"subject":"customer/42","forgotten":true}}"#);
        assert_eq!(serde_json::from_str::<Envelope>(&text).ok(), Some(envelope));
        for strange in [
            r#"{"$shredded":{"v":1,"subject":"s","x":1}}"#,
            r#"{"$shredded":{"v":1}}"#,
            r#"{"$shredded":{"v":1,"subject":"s"},"b":1}"#,
        ] {
            assert!(serde_json::from_str::<Envelope>(strange).is_err(), "{strange}");
        }
    }
}
