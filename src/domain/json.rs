//! JSON for people: indents a document, or hides parts of it, without reading its values, so that every number and escape that
//! stays is as it was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The replacement of a hidden value.
const REDACTED: &str = "\"[redacted]\"";

/// Hides what stands at one of the paths, each the names of members from the top, `*` for any; lists are looked through.
pub fn redact_json(json: &RawValue, paths: &[Vec<String>]) -> Box<RawValue> {
    let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    RawValue::from_string(redact(json.get(), &paths, DEEPEST)).expect("JSON stays JSON with other values")
}

/// Levels that are searched. Deeper values are hidden as a whole: a document may be nested deeper than the stack.
const DEEPEST: usize = 128;

/// A path as it is written, for example `customer.card`.
pub fn parse_path(text: &str) -> Result<Vec<String>, &'static str> {
    let names: Vec<String> = text.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) { Err("expected names with dots between them, such as customer.card") } else { Ok(names) }
}

fn redact(text: &str, paths: &[&[String]], levels: usize) -> String {
    if paths.is_empty() {
        return text.to_owned();
    }
    let is_nested = text.starts_with(['{', '[']);
    if paths.iter().any(|path| path.is_empty()) || (levels == 0 && is_nested) {
        return REDACTED.to_owned();
    }
    if let Ok(Members(members)) = serde_json::from_str(text) {
        let member = |(name, value): &(String, &RawValue)| {
            let below: Vec<&[String]> =
                paths.iter().filter(|path| path[0] == *name || path[0] == "*").map(|path| &path[1..]).collect();
            format!("{}:{}", serde_json::to_string(name).expect("a text has a JSON form"), redact(value.get(), &below, levels - 1))
        };
        return format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","));
    }
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        return format!("[{}]", items.iter().map(|item| redact(item.get(), paths, levels - 1)).collect::<Vec<_>>().join(","));
    }
    // Postgres takes names that are no text, such as "\ud800". A document that cannot be parsed is not shown.
    if is_nested { REDACTED.to_owned() } else { text.to_owned() }
}

/// Whether something stands at one of the paths, so that [`redact_json`] would hide it.
pub fn hides(json: &RawValue, paths: &[Vec<String>]) -> bool {
    let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    hides_some(json.get(), &paths, DEEPEST)
}

fn hides_some(text: &str, paths: &[&[String]], levels: usize) -> bool {
    if paths.is_empty() {
        return false;
    }
    let is_nested = text.starts_with(['{', '[']);
    if paths.iter().any(|path| path.is_empty()) || (levels == 0 && is_nested) {
        return true;
    }
    if let Ok(Members(members)) = serde_json::from_str(text) {
        return members.iter().any(|(name, value)| {
            let below: Vec<&[String]> =
                paths.iter().filter(|path| path[0] == *name || path[0] == "*").map(|path| &path[1..]).collect();
            hides_some(value.get(), &below, levels - 1)
        });
    }
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(items) => items.iter().any(|item| hides_some(item.get(), paths, levels - 1)),
        Err(_) => is_nested,
    }
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

/// The text without white space between its values. Changes nothing else.
pub fn compact_json(text: &str) -> String {
    let (mut in_string, mut is_escaped) = (false, false);
    let is_content = |c: &char| {
        let is_content = in_string || !c.is_ascii_whitespace();
        (in_string, is_escaped) = step(*c, in_string, is_escaped);
        is_content
    };
    text.chars().filter(is_content).collect()
}

/// The text with escapes in place of characters that a person cannot see, or that turn the direction of a text. In a JSON text such
/// characters stand within strings only, so it says the same.
pub fn visible_json(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || c == '\t' || c == '\r' || !is_hidden(c) {
            visible.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            visible.push_str(&format!("\\u{unit:04x}"));
        }
    }
    visible
}

fn is_hidden(c: char) -> bool {
    super::text::printable(&c.to_string()) != c.to_string()
}

/// A JSON text with one member per line. Changes white space only; what is no JSON comes out unharmed, if not pretty.
pub fn indent_json(text: &str) -> String {
    let mut pretty = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut characters = text.chars().filter({
        let (mut in_string, mut is_escaped) = (false, false);
        move |c| {
            let is_content = in_string || !c.is_ascii_whitespace();
            (in_string, is_escaped) = step(*c, in_string, is_escaped);
            is_content
        }
    });
    let (mut in_string, mut is_escaped) = (false, false);
    let mut next = characters.next();
    while let Some(c) = next {
        next = characters.next();
        let was_in_string = in_string;
        (in_string, is_escaped) = step(c, in_string, is_escaped);
        match c {
            _ if was_in_string => pretty.push(c),
            '{' | '[' if matches!(next, Some('}' | ']')) => pretty.push(c),
            '{' | '[' => {
                depth += 1;
                pretty.push(c);
                break_line(&mut pretty, depth);
            }
            '}' | ']' => {
                if !pretty.ends_with(['{', '[']) {
                    depth = usize::saturating_sub(depth, 1);
                    break_line(&mut pretty, depth);
                }
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                break_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            c => pretty.push(c),
        }
    }
    pretty
}

/// Whether we are in a string, and behind a backslash, after this character.
fn step(c: char, in_string: bool, is_escaped: bool) -> (bool, bool) {
    match c {
        _ if is_escaped => (in_string, false),
        '\\' => (in_string, in_string),
        '"' => (!in_string, false),
        _ => (in_string, false),
    }
}

fn break_line(pretty: &mut String, depth: usize) {
    pretty.push('\n');
    pretty.extend(std::iter::repeat_n("  ", depth));
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

    #[test]
    fn what_would_be_hidden_is_known_whatever_its_white_space() {
        let json = RawValue::from_string("{ \"a\": [ { \"card\" : 1 } ], \"b\": null }".to_owned()).expect("it is JSON");
        let hides = |path: &str| hides(&json, &[parse_path(path).expect("a path")]);
        assert!(hides("a.card") && hides("*.card") && hides("b") && !hides("card") && !hides("a.b"));
        assert!(!super::hides(&json, &[]));
    }

    #[test]
    fn a_compact_or_visible_text_says_the_same() {
        assert_eq!(compact_json("{ \"a b\" :\r\n [ 1, 2.50 ] , \"c\": \" \\\" { \" }"), "{\"a b\":[1,2.50],\"c\":\" \\\" { \"}");
        let hostile = "{\"a\":\"\u{202e}x\u{7f}ä\"}";
        assert_eq!(visible_json(hostile), "{\"a\":\"\\u202ex\\u007fä\"}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
        assert_eq!(read(&visible_json(hostile)), read(hostile));
    }

    #[test]
    fn what_is_nested_too_deeply_is_hidden_as_a_whole() {
        let nested = |levels: usize| RawValue::from_string(format!("{}7{}", "[".repeat(levels), "]".repeat(levels))).expect("JSON");
        let paths = [vec!["card".to_owned()]];
        assert_eq!(redact_json(&nested(DEEPEST), &paths).get(), nested(DEEPEST).get());
        let redacted = redact_json(&nested(100_000), &paths);
        assert!(redacted.get().contains("[redacted]") && !redacted.get().contains('7'));
    }

    #[test]
    fn what_cannot_be_looked_through_is_hidden_as_a_whole() {
        let json = RawValue::from_string(r#"{"a":{"\ud800":1,"card":"4111"},"b":{"card":"4222"},"c":1}"#.to_owned()).expect("JSON");
        let redacted = redact_json(&json, &[vec!["*".to_owned(), "card".to_owned()]]);
        assert_eq!(redacted.get(), r#"{"a":"[redacted]","b":{"card":"[redacted]"},"c":1}"#);
    }

    #[test]
    fn only_white_space_changes() {
        for (text, want) in [
            ("{}", "{}"),
            ("[ ]", "[]"),
            ("{\"n\":12345678901234567890.10,\"e\":1E400}", "{\n  \"n\": 12345678901234567890.10,\n  \"e\": 1E400\n}"),
            ("{\"a\" : [1,{}], \"a\":null}", "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"a\": null\n}"),
            ("{\"s\":\"{ \\\" , : } \\\\\"}", "{\n  \"s\": \"{ \\\" , : } \\\\\"\n}"),
            ("[[],[{}]]", "[\n  [],\n  [\n    {}\n  ]\n]"),
        ] {
            assert_eq!(indent_json(text), want);
        }
    }
}
