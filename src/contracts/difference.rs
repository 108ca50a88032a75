//! Differences between two documents, as paths: shows which values a cast there and back does not restore. Compares values, not
//! texts: `1.50` equals `1.5`, and the order of members does not matter.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::decimal::Decimal;
use super::path::{Path, Step};
use super::tree::{JsonType, Node, Problem};

/// The paths at which two JSON documents differ, sorted; items of lists share one path. Fails on what is no JSON.
pub fn differences(one: &str, other: &str) -> Result<Vec<Difference>, Problem> {
    let mut found = BTreeSet::new();
    compare(&mut Node::recorded(one), &mut Node::recorded(other), &mut Vec::new(), &mut found)?;
    Ok(found.into_iter().map(Difference).collect())
}

/// A place at which two documents differ; empty steps stand for the whole document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference(Vec<Step>);

impl Difference {
    /// Whether this path says so: it is the place, or one above it.
    pub fn is_declared_by(&self, path: &Path) -> bool {
        self.0.starts_with(path.steps())
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Member(name) => write!(f, "{}{name}", if index == 0 { "" } else { "." })?,
                Step::Each => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

fn compare(one: &mut Node<'_>, other: &mut Node<'_>, at: &mut Vec<Step>, found: &mut BTreeSet<Vec<Step>>) -> Result<(), Problem> {
    match (one.json_type(), other.json_type()) {
        (JsonType::Object, JsonType::Object) => compare_objects(one, other, at, found),
        (JsonType::List, JsonType::List) => compare_lists(one, other, at, found),
        (a, b) => {
            if a != b || !is_same_scalar(one.scalar(), other.scalar()) {
                found.insert(at.clone());
            }
            Ok(())
        }
    }
}

fn is_same_scalar(one: Option<&str>, other: Option<&str>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    if one == other {
        return true;
    }
    if let (Some(one), Some(other)) = (Decimal::parse(one), Decimal::parse(other)) {
        return one == other;
    }
    let decoded = |text: &str| serde_json::from_str::<String>(text).map(Cow::<str>::Owned).ok();
    matches!((decoded(one), decoded(other)), (Some(one), Some(other)) if one == other)
}

fn compare_objects(
    one: &mut Node<'_>,
    other: &mut Node<'_>,
    at: &mut Vec<Step>,
    found: &mut BTreeSet<Vec<Step>>,
) -> Result<(), Problem> {
    let (Some(ones), Some(others)) = (one.members()?, other.members()?) else { return Ok(()) };
    let names: BTreeSet<String> = ones.iter().chain(others.iter()).map(super::tree::Member::decoded_name).collect();
    for name in names {
        // Of members that are there twice the last one counts, as most receivers see it.
        let of_one = ones.iter_mut().rev().find(|member| member.decoded_name() == name);
        let of_other = others.iter_mut().rev().find(|member| member.decoded_name() == name);
        at.push(Step::Member(name));
        match (of_one, of_other) {
            (Some(one), Some(other)) => compare(&mut one.value, &mut other.value, at, found)?,
            _ => drop(found.insert(at.clone())),
        }
        at.pop();
    }
    Ok(())
}

fn compare_lists(
    one: &mut Node<'_>,
    other: &mut Node<'_>,
    at: &mut Vec<Step>,
    found: &mut BTreeSet<Vec<Step>>,
) -> Result<(), Problem> {
    let (Some(ones), Some(others)) = (one.items()?, other.items()?) else { return Ok(()) };
    if ones.len() != others.len() {
        found.insert(at.clone());
        return Ok(());
    }
    at.push(Step::Each);
    for (one, other) in ones.iter_mut().zip(others.iter_mut()) {
        compare(one, other, at, found)?;
    }
    at.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_their_paths() {
        for (one, other, want) in [
            (r#"{"a":1.50,"b":"\u0061"}"#, r#"{"b":"a","a":1.5}"#, vec![]),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, vec!["a"]),
            (r#"{"a":1}"#, r#"{"a":"1","b":null}"#, vec!["a", "b"]),
            (r#"{"l":[{"a":1},{"a":2}]}"#, r#"{"l":[{"a":1},{"a":3,"b":1}]}"#, vec!["l[].a", "l[].b"]),
            (r#"{"l":[1]}"#, r#"{"l":[1,2]}"#, vec!["l"]),
            (r#"{"o":{"p":{"q":true}}}"#, r#"{"o":{"p":{"q":false}}}"#, vec!["o.p.q"]),
        ] {
            let found = differences(one, other).expect("JSON");
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{one} {other}");
        }
    }

    #[test]
    fn a_declared_path_covers_what_is_below_it() {
        let found = differences(r#"{"l":[{"a":{"b":1}}]}"#, r#"{"l":[{"a":{"b":2}}]}"#).expect("JSON");
        for (text, want) in [("l", true), ("l[].a", true), ("l[].a.b", true), ("l[].b", false), ("l[].a.b.c", false)] {
            assert_eq!(found[0].is_declared_by(&Path::parse(text).expect("a path")), want, "{text}");
        }
    }
}
