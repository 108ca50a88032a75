//! Filters: which events a handler wants. SQL evaluates a filter, so that unwanted rows never travel; here it is only checked and
//! translated.

use std::collections::BTreeMap;

/// Wants an event if every part that is set matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Globs over the type; `*` stands for any characters. Empty: every type.
    pub types: Vec<String>,
    /// Aggregate types, exactly. Empty: every one, and events without an aggregate.
    pub aggregate_types: Vec<String>,
    /// Headers that must be there with exactly this text, number or boolean.
    pub headers: BTreeMap<String, serde_json::Value>,
}

impl EventFilter {
    /// The type globs as LIKE patterns; `None` if every type is wanted.
    pub fn type_patterns(&self) -> Option<Vec<String>> {
        if self.types.is_empty() || self.types.iter().any(|glob| glob == "*") {
            return None;
        }
        Some(self.types.iter().map(|glob| like_pattern(glob)).collect())
    }

    /// `None` if every aggregate type is wanted.
    pub fn aggregate_types(&self) -> Option<Vec<String>> {
        (!self.aggregate_types.is_empty()).then(|| self.aggregate_types.clone())
    }

    /// The wanted headers as a JSON object; `None` if no header is asked for.
    pub fn required_headers(&self) -> Option<serde_json::Value> {
        (!self.headers.is_empty()).then(|| serde_json::json!(self.headers))
    }
}

fn like_pattern(glob: &str) -> String {
    let mut pattern = String::with_capacity(glob.len() + 4);
    for character in glob.chars() {
        match character {
            '*' => pattern.push('%'),
            '%' | '_' | '\\' => pattern.extend(['\\', character]),
            other => pattern.push(other),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_becomes_a_like_pattern_with_everything_else_literal() {
        for (glob, want) in [("order.*", "order.%"), ("order_placed", "order\\_placed"), ("100%", "100\\%"), ("a\\b", "a\\\\b")] {
            assert_eq!(like_pattern(glob), want);
        }
        let all = EventFilter { types: vec!["a".into(), "*".into()], ..EventFilter::default() };
        assert_eq!(all.type_patterns(), None);
    }
}
