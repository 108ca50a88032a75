//! Casts: from one version of an event to another, as a list of operations. Only members that an operation names are opened;
//! everything else of the payload is copied as it was recorded. Fails rather than send a wrong value.

use super::operation::Operation;
use super::path::Path;
use super::tree::{Node, Problem};

/// The way from one version to another: one edge, or several composed when the contracts are loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cast {
    operations: Vec<Operation>,
    /// Paths of the version it begins with whose values do not come back from the version it ends with.
    loses: Vec<Path>,
}

/// Why a payload has no form in the version that was asked for. Names the operation and the place, and never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: the value {problem}")]
pub struct CastError {
    /// For example `rename "id"`.
    pub operation: String,
    pub problem: Problem,
}

impl Cast {
    pub fn new(operations: Vec<Operation>, loses: Vec<Path>) -> Self {
        Self { operations, loses }
    }

    /// One cast after the other, as one. The losses are those of the first edge: the others speak of other versions.
    pub fn composed<'c>(edges: impl IntoIterator<Item = &'c Self>) -> Self {
        let mut edges = edges.into_iter();
        let Some(mut composed) = edges.next().cloned() else { return Self::default() };
        composed.operations.extend(edges.flat_map(|edge| edge.operations.iter().cloned()));
        composed
    }

    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub fn loses(&self) -> &[Path] {
        &self.loses
    }

    /// The payload in the other version. `payload` is a JSON object. Between the members of an object that an operation works in, white
    /// space is left out; nothing else of what no operation names is changed.
    pub fn apply(&self, payload: &str) -> Result<String, CastError> {
        if self.operations.is_empty() {
            return Ok(payload.to_owned());
        }
        let mut document = Node::recorded(payload);
        for operation in &self.operations {
            operation.apply(&mut document).map_err(|problem| CastError { operation: operation.to_string(), problem })?;
        }
        let mut out = String::with_capacity(payload.len() + 64);
        document.write(&mut out);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::contracts::decimal::Decimal;
    use crate::contracts::operation::{InvalidOperation, ScalarType};

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap_or_else(|invalid| panic!("{text}: {invalid}"))
    }

    fn rename(from: &str, to: &str) -> Operation {
        Operation::rename(path(from), to).expect("valid")
    }

    fn move_to(from: &str, to: &str) -> Operation {
        Operation::move_to(path(from), path(to)).expect("valid")
    }

    fn scale(from: &str, to: &str, by: &str, form: Option<ScalarType>) -> Operation {
        Operation::scale(path(from), Some(to), Decimal::parse(by).expect("a number"), form).expect("valid")
    }

    fn apply(operation: Operation, payload: &str) -> Result<String, String> {
        Cast::new(vec![operation], vec![]).apply(payload).map_err(|error| error.to_string())
    }

    #[test]
    fn every_operation_does_what_it_says() {
        let map = |otherwise: Option<&str>| Operation::Map {
            path: path("s"),
            values: BTreeMap::from([("new".to_owned(), "\"created\"".to_owned()), ("7".to_owned(), "true".to_owned())]),
            otherwise: otherwise.map(str::to_owned),
        };
        let set = |text: &str, value: &str| Operation::Const { path: path(text), value: value.to_owned() };
        let default = |text: &str, value: &str| Operation::Default { path: path(text), value: value.to_owned() };
        let cast = |to| Operation::Cast { path: path("n"), to };
        let nest = || Operation::nest(vec![path("a"), path("c")], "o").expect("valid");
        let unnest = || Operation::Unnest { path: path("o") };
        for (operation, payload, want) in [
            (rename("id", "order_id"), r#"{"z":1, "id" : 2 ,"y":[ 3 ]}"#, r#"{"z":1,"order_id":2,"y":[ 3 ]}"#),
            (rename("l[].a", "b"), r#"{"l":[{"a": 1},{},{"a":{ }}]}"#, r#"{"l":[{"b":1},{},{"b":{ }}]}"#),
            (rename("l[].a", "b"), r#"{"l":null}"#, r#"{"l":null}"#),
            (rename("a.b", "c"), r#"{"a":null,"x":1}"#, r#"{"a":null,"x":1}"#),
            (move_to("a", "b.c"), r#"{"a":1,"x":2}"#, r#"{"x":2,"b":{"c":1}}"#),
            (move_to("a", "a.b"), r#"{"a": 1}"#, r#"{"a":{"b":1}}"#),
            (move_to("b.c", "a"), r#"{"b":{"c":1,"d":2}}"#, r#"{"b":{"d":2},"a":1}"#),
            (move_to("l[].a.b", "l[].b"), r#"{"l":[{"a":{"b":1}}]}"#, r#"{"l":[{"a":{},"b":1}]}"#),
            (Operation::Drop { path: path("a.b") }, r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"c":2}}"#),
            (default("a", "[1]"), r#"{"b":1}"#, r#"{"b":1,"a":[1]}"#),
            (default("a", "1"), r#"{"a":null}"#, r#"{"a":null}"#),
            (default("o.a", "1"), r#"{"x":0}"#, r#"{"x":0}"#),
            (set("o.a", "1"), r#"{"x":0}"#, r#"{"x":0,"o":{"a":1}}"#),
            (set("l[].a", "1"), r#"{"l":[{"a":2},{}]}"#, r#"{"l":[{"a":1},{"a":1}]}"#),
            (set("l[].a", "1"), r#"{"x":0}"#, r#"{"x":0}"#),
            (cast(ScalarType::Text), r#"{"n":9007199254740993}"#, r#"{"n":"9007199254740993"}"#),
            (cast(ScalarType::Text), r#"{"n":true}"#, r#"{"n":"true"}"#),
            (cast(ScalarType::Integer), r#"{"n":"9007199254740993"}"#, r#"{"n":9007199254740993}"#),
            (cast(ScalarType::Integer), r#"{"n":1.2e1}"#, r#"{"n":12}"#),
            (cast(ScalarType::Number), r#"{"n":"1.10"}"#, r#"{"n":1.10}"#),
            (cast(ScalarType::Boolean), r#"{"n":"false"}"#, r#"{"n":false}"#),
            (cast(ScalarType::Integer), r#"{"n":null}"#, r#"{"n":null}"#),
            (scale("c", "t", "0.01", Some(ScalarType::Text)), r#"{"c":1250}"#, r#"{"t":"12.50"}"#),
            (scale("t", "c", "100", Some(ScalarType::Integer)), r#"{"t":"12.50"}"#, r#"{"c":1250}"#),
            (scale("c", "c", "0.001", None), r#"{"c":9007199254740993}"#, r#"{"c":9007199254740.993}"#),
            (map(None), r#"{"s":"new"}"#, r#"{"s":"created"}"#),
            (map(None), r#"{"s":7}"#, r#"{"s":true}"#),
            (map(Some("\"other\"")), r#"{"s":"x"}"#, r#"{"s":"other"}"#),
            (nest(), r#"{"z":0,"a":1,"b":2,"c":3}"#, r#"{"z":0,"o":{"a":1,"c":3},"b":2}"#),
            (nest(), r#"{"b":2}"#, r#"{"b":2}"#),
            (unnest(), r#"{"z":0,"o":{"a":1,"c":3},"b":2}"#, r#"{"z":0,"a":1,"c":3,"b":2}"#),
        ] {
            assert_eq!(apply(operation.clone(), payload).as_deref(), Ok(want), "{operation}: {payload}");
        }
    }

    #[test]
    fn what_would_be_wrong_is_refused_without_the_value() {
        let cast = |to| Operation::Cast { path: path("n"), to };
        let map = Operation::Map { path: path("n"), values: BTreeMap::new(), otherwise: None };
        for (operation, payload, want) in [
            (rename("a", "b"), r#"{"a":1,"b":2}"#, "rename \"a\": the value has a member \"b\" already"),
            (rename("a", "b"), r#"{"a":1,"\u0061":2}"#, "rename \"a\": the value has the member \"a\" more than once"),
            (rename("a.b", "c"), r#"{"a":[1]}"#, "rename \"a.b\": the value is a list, and the cast expects an object"),
            (rename("a[].b", "c"), r#"{"a":{}}"#, "rename \"a[].b\": the value is an object, and the cast expects a list"),
            (move_to("a", "b.c"), r#"{"a":1,"b":{"c":2}}"#, "move \"a\": the value has a member \"c\" already"),
            (move_to("a", "b.c"), r#"{"a":1,"b":null}"#, "move \"a\": the value is null, and the cast expects an object"),
            (cast(ScalarType::Integer), r#"{"n":12.5}"#, "cast \"n\": the value is not a whole number, and a cast does not round"),
            (cast(ScalarType::Integer), r#"{"n":"secret"}"#, "cast \"n\": the value is no number, or has more than 400 digits"),
            (cast(ScalarType::Number), r#"{"n":"0x1"}"#, "cast \"n\": the value is a text that is no number"),
            (cast(ScalarType::Boolean), r#"{"n":1}"#, "cast \"n\": the value is a number, and the cast expects a boolean"),
            (cast(ScalarType::Text), r#"{"n":{}}"#, "cast \"n\": the value is an object, and the cast expects a text"),
            (cast(ScalarType::Integer), r#"{"n":1e999}"#, "cast \"n\": the value is no number, or has more than 400 digits"),
            (
                scale("n", "c", "100", Some(ScalarType::Integer)),
                r#"{"n":"12.505"}"#,
                "scale \"n\": the value is not a whole number when it is multiplied, and a cast does not round",
            ),
            (map, r#"{"n":"secret"}"#, "map \"n\": the value is one that the map does not list"),
        ] {
            let error = apply(operation, payload).expect_err(payload);
            assert_eq!(error, want, "{payload}");
        }
    }

    #[test]
    fn paths_that_make_no_operation_are_refused() {
        assert_eq!(Operation::rename(path("a"), "b.c"), Err(InvalidOperation::NotAName("b.c".to_owned())));
        assert!(matches!(Operation::move_to(path("l[].a"), path("m[].a")), Err(InvalidOperation::OtherList(..))));
        assert!(matches!(Operation::move_to(path("a"), path("a")), Err(InvalidOperation::Same(..))));
        assert!(matches!(Operation::nest(vec![path("a.b"), path("c")], "o"), Err(InvalidOperation::TwoObjects(..))));
        assert_eq!(Operation::nest(vec![], "o"), Err(InvalidOperation::NothingToNest));
        let zero = Decimal::parse("0.0").expect("a number");
        assert_eq!(Operation::scale(path("a"), None, zero, None), Err(InvalidOperation::ZeroFactor));
    }

    #[test]
    fn composed_edges_are_one_cast() {
        let first = Cast::new(vec![rename("a", "b")], vec![path("x")]);
        let second = Cast::new(vec![rename("b", "c")], vec![path("y")]);
        let composed = Cast::composed([&first, &second]);
        assert_eq!(composed.apply(r#"{"a":1}"#).as_deref(), Ok(r#"{"c":1}"#));
        assert_eq!(composed.loses(), [path("x")]);
        assert_eq!(Cast::composed([]).apply("{ }").as_deref(), Ok("{ }"), "no edge: byte for byte");
    }
}
