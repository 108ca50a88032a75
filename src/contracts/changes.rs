//! Changes between two payloads, for people: each place that differs, with what stood there and what stands there now.
//! Every value keeps its text, so a number of twenty digits is compared and shown digit by digit.

use std::collections::BTreeSet;

use super::tree::{JsonType, Member, Node, Problem};

/// Levels that are compared member by member. What lies deeper is compared as a whole: a document may be nested deeper than the stack is.
const DEEPEST: usize = 64;

/// A place at which two payloads differ.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct PayloadChange {
    /// For example `lines[2].price`; a name with other characters is quoted: `["a b"]`.
    pub path: String,
    /// The JSON text before; `None`: it was not there.
    pub was: Option<String>,
    /// The JSON text now; `None`: it is not there any more.
    pub now: Option<String>,
}

impl PayloadChange {
    /// In one word: `added`, `removed` or `changed`.
    pub fn word(&self) -> &'static str {
        match (&self.was, &self.now) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        }
    }
}

/// Every place at which two JSON documents differ, in the order of their names. White space, the order of members and escapes do not
/// count. Of members that are there twice the last one counts, as most receivers see it. Fails on what is no JSON.
pub fn changes(was: &str, now: &str) -> Result<Vec<PayloadChange>, Problem> {
    let mut found = Vec::new();
    compare(&mut Node::recorded(was), &mut Node::recorded(now), "", DEEPEST, &mut found)?;
    Ok(found)
}

fn compare(was: &mut Node<'_>, now: &mut Node<'_>, at: &str, levels: usize, found: &mut Vec<PayloadChange>) -> Result<(), Problem> {
    match (was.json_type(), now.json_type()) {
        (JsonType::Object, JsonType::Object) if levels > 0 => compare_objects(was, now, at, levels, found),
        (JsonType::List, JsonType::List) if levels > 0 => compare_lists(was, now, at, levels, found),
        _ => {
            let (was, now) = (text(was), text(now));
            if !is_same(&was, &now) {
                found.push(PayloadChange { path: at.to_owned(), was: Some(was), now: Some(now) });
            }
            Ok(())
        }
    }
}

/// Numbers are the same only if they are written alike: receivers tell `1.0` from `1`.
fn is_same(was: &str, now: &str) -> bool {
    let decoded = |text: &str| serde_json::from_str::<String>(text).ok();
    was == now || matches!((decoded(was), decoded(now)), (Some(was), Some(now)) if was == now)
}

fn compare_objects(
    was: &mut Node<'_>,
    now: &mut Node<'_>,
    at: &str,
    levels: usize,
    found: &mut Vec<PayloadChange>,
) -> Result<(), Problem> {
    let (Some(before), Some(after)) = (was.members()?, now.members()?) else { return Ok(()) };
    let names: BTreeSet<String> = before.iter().chain(after.iter()).map(Member::decoded_name).collect();
    for name in names {
        let of_before = before.iter_mut().rev().find(|member| member.decoded_name() == name).map(|member| &mut member.value);
        let of_after = after.iter_mut().rev().find(|member| member.decoded_name() == name).map(|member| &mut member.value);
        compare_both(of_before, of_after, &step(at, &name), levels, found)?;
    }
    Ok(())
}

fn compare_lists(
    was: &mut Node<'_>,
    now: &mut Node<'_>,
    at: &str,
    levels: usize,
    found: &mut Vec<PayloadChange>,
) -> Result<(), Problem> {
    let (Some(before), Some(after)) = (was.items()?, now.items()?) else { return Ok(()) };
    for index in 0..before.len().max(after.len()) {
        compare_both(before.get_mut(index), after.get_mut(index), &format!("{at}[{index}]"), levels, found)?;
    }
    Ok(())
}

fn compare_both(
    was: Option<&mut Node<'_>>,
    now: Option<&mut Node<'_>>,
    at: &str,
    levels: usize,
    found: &mut Vec<PayloadChange>,
) -> Result<(), Problem> {
    match (was, now) {
        (Some(was), Some(now)) => compare(was, now, at, levels - 1, found),
        (was, now) => {
            let text = |node: Option<&mut Node<'_>>| node.map(|node| text(node));
            found.push(PayloadChange { path: at.to_owned(), was: text(was), now: text(now) });
            Ok(())
        }
    }
}

fn text(node: &Node<'_>) -> String {
    let mut text = String::new();
    node.write(&mut text);
    text
}

/// A path with one more name.
fn step(at: &str, name: &str) -> String {
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    match (is_plain, at.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{at}.{name}"),
        (false, _) => format!("{at}[{}]", super::tree::quoted(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(was: &str, now: &str) -> Vec<String> {
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let found = changes(was, now).expect("JSON");
        found.into_iter().map(|change| format!("{} {} {}", change.path, dash(change.was), dash(change.now))).collect()
    }

    #[test]
    fn every_place_that_differs_is_told_with_both_texts() {
        for (was, now, want) in [
            (r#"{"a":1,"b":"\u0061"}"#, r#"{ "b": "a", "a": 1 }"#, vec![]),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, vec!["a 9007199254740993 9007199254740992"]),
            (r#"{"a":1.0}"#, r#"{"a":1}"#, vec!["a 1.0 1"]),
            (r#"{"a":1}"#, r#"{"a":"1","b":null}"#, vec!["a 1 \"1\"", "b - null"]),
            (r#"{"l":[{"p":1},{"p":2}]}"#, r#"{"l":[{"p":1},{"p":3}]}"#, vec!["l[1].p 2 3"]),
            (r#"{"l":[1]}"#, r#"{"l":[1,2]}"#, vec!["l[1] - 2"]),
            (r#"{"o":{"a b":true}}"#, r#"{"o":{}}"#, vec![r#"o["a b"] true -"#]),
            (r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#, vec![r#"a {"b":1} [1]"#]),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, vec![]),
        ] {
            assert_eq!(told(was, now), want, "{was} {now}");
        }
    }

    #[test]
    fn what_is_nested_deeper_than_the_stack_is_compared_as_a_whole() {
        let nested = |inner: &str| format!("{{\"a\":{}{inner}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(changes(&nested("1"), &nested("1")).expect("JSON"), []);
        assert_eq!(changes(&nested("1"), &nested("2")).expect("JSON").len(), 1);
        assert!(changes("{\"a\":", "{}").is_err());
    }
}
