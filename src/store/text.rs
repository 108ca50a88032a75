//! Text that producers or receivers wrote, as Postgres can store it: without NUL, which no text can hold, and bounded. Changes
//! nothing else, because operators must see what was said.

use std::borrow::Cow;

use serde_json::Value;

/// Bytes of one stored text. Handlers keep excerpts that are far shorter.
const LONGEST: usize = 64 * 1024;

/// The text without what cannot be stored.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// The same for a text that there need not be.
pub(super) fn storable_or_none(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(storable)
}

/// A JSON text for a `jsonb` column, whose texts cannot hold NUL either.
pub(super) fn storable_json(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u0000") {
        return Cow::Borrowed(json);
    }
    match serde_json::from_str::<Value>(json) {
        Ok(value) => Cow::Owned(cleaned(value).to_string()),
        Err(_) => Cow::Borrowed(json),
    }
}

/// A JSON value without NUL in any text.
pub(super) fn cleaned(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(values) => Value::Array(values.into_iter().map(cleaned).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name.replace('\0', "\u{fffd}"), cleaned(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_loses_what_cannot_be_stored_and_nothing_else() {
        assert_eq!(storable("a\u{1}ä\u{202e}\n"), "a\u{1}ä\u{202e}\n");
        assert_eq!(storable("a\0b\0"), "a\u{fffd}b\u{fffd}");
        assert_eq!(storable(&"ä".repeat(LONGEST)).len(), LONGEST);
        assert_eq!(storable(&format!("x{}", "ä".repeat(LONGEST))).len(), LONGEST - 1);
    }

    #[test]
    fn a_json_text_loses_nul_and_keeps_a_backslash_before_u0000() {
        let said = serde_json::json!({ "a\0": ["x\0y", { "b": "\\u0000" }], "n": 1 }).to_string();
        let stored: Value = serde_json::from_str(&storable_json(&said)).expect("it is JSON still");
        assert_eq!(stored, serde_json::json!({ "a\u{fffd}": ["x\u{fffd}y", { "b": "\\u0000" }], "n": 1 }));
    }
}
