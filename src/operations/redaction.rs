//! Hides parts of a JSON document without reading its values: every number and escape that stays is as it was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What stands in place of a hidden value.
const REDACTED: &str = "\"[redacted]\"";

/// Hides what stands at one of the paths, each the names of members from the top, `*` for any; lists are looked through.
pub fn redact_json(json: &RawValue, paths: &[Vec<String>]) -> Box<RawValue> {
    let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    RawValue::from_string(redact(json.get(), &paths)).expect("what was JSON is JSON with other values")
}

/// A path as it is written, for example `customer.card`.
pub fn parse_path(text: &str) -> Result<Vec<String>, &'static str> {
    let names: Vec<String> = text.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) { Err("expected names with dots between them, such as customer.card") } else { Ok(names) }
}

fn redact(text: &str, paths: &[&[String]]) -> String {
    if paths.is_empty() {
        return text.to_owned();
    }
    if paths.iter().any(|path| path.is_empty()) {
        return REDACTED.to_owned();
    }
    if let Ok(Members(members)) = serde_json::from_str(text) {
        let member = |(name, value): &(String, &RawValue)| {
            let below: Vec<&[String]> =
                paths.iter().filter(|path| path[0] == *name || path[0] == "*").map(|path| &path[1..]).collect();
            format!("{}:{}", serde_json::to_string(name).expect("a text has a JSON form"), redact(value.get(), &below))
        };
        return format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","));
    }
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        return format!("[{}]", items.iter().map(|item| redact(item.get(), paths)).collect::<Vec<_>>().join(","));
    }
    text.to_owned()
}

/// An object as it is written: in its order, with names that stand twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_at_a_path_is_hidden() {
        let text =
            r#"{"a":{"card":"4111","n":12345678901234567890.10},"list":[{"card":1},{"x":2}],"card":null,"b.c":1,"a":{"card":2}}"#;
        let json = RawValue::from_string(text.to_owned()).expect("it is JSON");
        let redacted = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|path| parse_path(path).expect("it is a path")).collect();
            redact_json(&json, &paths).get().to_owned()
        };
        assert_eq!(redacted(&[]), text);
        assert_eq!(redacted(&["nobody", "a.card.deeper"]), text);
        assert_eq!(
            redacted(&["a.card", "list.card"]),
            r#"{"a":{"card":"[redacted]","n":12345678901234567890.10},"list":[{"card":"[redacted]"},{"x":2}],"card":null,"b.c":1,"a":{"card":"[redacted]"}}"#
        );
        assert!(redacted(&["*.card"]).contains("\"card\":null"));
        assert!(redacted(&["card"]).contains("\"card\":\"[redacted]\",\"b.c\""));
        assert!(parse_path("a..b").is_err() && parse_path("").is_err());
    }
}
