//! The comparison against tables of our own, against the cases of another project, and against generated schemas.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn verdict(writer: &Value, reader: &Value) -> (Verdict, Vec<Finding>) {
    let found = findings(writer, reader, Direction::Forward);
    (Verdict::of(&found), found)
}

/// What a change within a version is, with the rule that says so: `published` is known to readers, `new` is emitted.
fn forward(published: Value, new: Value) -> (Verdict, String) {
    let (verdict, found) = verdict(&new, &published);
    let rules: Vec<String> = found.iter().map(|finding| format!("{} {}", finding.path, finding.rule).trim().to_owned()).collect();
    for finding in &found {
        if let Some(instance) = &finding.instance {
            assert!(Schema::of_value(new.clone()).expect("valid").is_valid(instance), "{finding}");
            assert!(!Schema::of_value(published.clone()).expect("valid").is_valid(instance), "{finding}");
        }
    }
    (verdict, rules.join(", "))
}

fn object(properties: Value, required: Value) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

#[test]
fn each_change_of_a_published_schema_is_judged() {
    use Verdict::{Breaking, Compatible};
    let text = || json!({ "type": "string" });
    let of = |schema: Value| object(json!({ "a": schema }), json!([]));
    for (published, new, verdict, rules) in [
        // Members.
        (object(json!({}), json!([])), of(text()), Compatible, ""),
        (of(text()), object(json!({}), json!([])), Compatible, ""),
        (object(json!({ "a": text() }), json!(["a"])), of(text()), Breaking, "required"),
        (of(text()), object(json!({ "a": text() }), json!(["a"])), Compatible, ""),
        (json!({ "type": "object", "additionalProperties": false }), of(text()), Breaking, "a additionalProperties"),
        (json!({ "type": "object", "additionalProperties": { "type": "integer" } }), of(text()), Breaking, "a type"),
        (
            of(json!({ "type": "integer" })),
            json!({ "additionalProperties": { "type": "string" }, "type": "object" }),
            Breaking,
            "a type",
        ),
        // Types.
        (of(json!({ "type": "integer" })), of(json!({ "type": "number" })), Breaking, "a type"),
        (of(json!({ "type": "number" })), of(json!({ "type": "integer" })), Compatible, ""),
        (of(json!({ "type": "number" })), of(json!({ "type": ["number", "null"] })), Breaking, "a type"),
        (of(json!({ "type": "boolean" })), of(json!({ "enum": [true, false] })), Compatible, ""),
        // Values.
        (of(json!({ "enum": ["a", "b"] })), of(json!({ "enum": ["a"] })), Compatible, ""),
        (of(json!({ "enum": ["a"] })), of(json!({ "enum": ["a", "b"] })), Breaking, "a enum"),
        (of(json!({ "enum": ["a"] })), of(text()), Breaking, "a enum"),
        (of(text()), of(json!({ "const": "x" })), Compatible, ""),
        // Texts.
        (of(json!({ "type": "string", "maxLength": 3 })), of(text()), Breaking, "a maxLength"),
        (of(json!({ "type": "string", "minLength": 3 })), of(text()), Breaking, "a minLength"),
        (of(json!({ "type": "string", "pattern": "^[A-Z]+$" })), of(text()), Breaking, "a pattern"),
        (of(json!({ "type": "string", "format": "date" })), of(text()), Breaking, "a format"),
        // Numbers.
        (of(json!({ "type": "integer", "minimum": 1 })), of(json!({ "type": "integer", "exclusiveMinimum": 0 })), Compatible, ""),
        (
            of(json!({ "type": "number", "minimum": 1 })),
            of(json!({ "type": "number", "exclusiveMinimum": 0 })),
            Breaking,
            "a minimum",
        ),
        (of(json!({ "type": "integer", "maximum": 9 })), of(json!({ "type": "integer" })), Breaking, "a maximum"),
        (of(json!({ "type": "number", "multipleOf": 0.01 })), of(json!({ "type": "number", "multipleOf": 0.1 })), Compatible, ""),
        (
            of(json!({ "type": "integer", "multipleOf": 5 })),
            of(json!({ "type": "integer", "multipleOf": 2 })),
            Breaking,
            "a multipleOf",
        ),
        // Lists.
        (
            of(json!({ "type": "array", "items": text() })),
            of(json!({ "type": "array", "items": { "type": "integer" } })),
            Breaking,
            "a[] type",
        ),
        (of(json!({ "type": "array", "minItems": 1 })), of(json!({ "type": "array" })), Breaking, "a minItems"),
        (of(json!({ "type": "array", "maxItems": 1 })), of(json!({ "type": "array", "maxItems": 2 })), Breaking, "a maxItems"),
        (
            of(json!({ "type": "array", "uniqueItems": true })),
            of(json!({ "type": "array", "items": text() })),
            Breaking,
            "a uniqueItems",
        ),
        (
            of(json!({ "type": "array", "prefixItems": [text()] })),
            of(json!({ "type": "array", "prefixItems": [text(), text()], "items": false })),
            Compatible,
            "",
        ),
        // Branches.
        (of(json!({ "anyOf": [text(), { "type": "null" }] })), of(json!({ "type": ["string", "null"] })), Compatible, ""),
        (of(json!({ "oneOf": [text(), { "type": "integer" }] })), of(json!({ "type": "integer" })), Compatible, ""),
        (of(json!({ "oneOf": [text()] })), of(json!({ "oneOf": [text(), { "type": "integer" }] })), Breaking, "a oneOf"),
        (of(json!({ "allOf": [text(), { "maxLength": 3 }] })), of(json!({ "type": "string", "maxLength": 2 })), Compatible, ""),
        (of(json!({ "not": { "type": "null" } })), of(json!({ "type": ["string", "null"] })), Breaking, "a not"),
    ] {
        let told = forward(published.clone(), new.clone());
        assert_eq!(told, (verdict, rules.to_owned()), "{published} <- {new}");
    }
}

#[test]
fn branches_are_told_apart_by_a_member_with_one_value() {
    let card = |name: &str| object(json!({ "kind": { "const": "card" }, name: { "type": "string" } }), json!(["kind"]));
    let bank = || object(json!({ "kind": { "const": "bank" } }), json!(["kind"]));
    let published = json!({ "oneOf": [card("number"), bank()] });
    assert_eq!(forward(published.clone(), json!({ "oneOf": [bank(), card("number")] })).0, Verdict::Compatible);
    assert_eq!(forward(published.clone(), bank()).0, Verdict::Compatible);
    let cash = object(json!({ "kind": { "const": "cash" } }), json!(["kind"]));
    assert_eq!(forward(published, json!({ "oneOf": [card("number"), bank(), cash] })).0, Verdict::Breaking);
}

#[test]
fn what_can_be_neither_proven_nor_refuted_is_unknown() {
    let of = |schema: Value| object(json!({ "a": schema }), json!([]));
    let told =
        forward(of(json!({ "type": "string", "pattern": "^[a-z0-9]+$" })), of(json!({ "type": "string", "pattern": "^[a-z]+$" })));
    assert_eq!(told, (Verdict::Unknown, "a pattern".to_owned()));
    let published =
        json!({ "type": "object", "properties": { "a": { "type": "string" } }, "unevaluatedProperties": { "type": "string" } });
    assert_eq!(forward(published, of(json!({ "type": "string" }))).0, Verdict::Unknown);
}

#[test]
fn a_schema_that_contains_itself_is_compared_once() {
    let tree = |name: Value| json!({ "type": "object", "properties": { "name": name, "children": { "type": "array", "items": { "$ref": "#" } } } });
    let (one, other) = (tree(json!({ "type": "string" })), tree(json!({ "type": "string", "maxLength": 9 })));
    assert_eq!(verdict(&other, &one).0, Verdict::Compatible);
    let (judged, found) = verdict(&one, &other);
    let places: Vec<(&str, &str)> = found.iter().map(|finding| (finding.path.as_str(), finding.rule)).collect();
    assert_eq!((judged, places), (Verdict::Breaking, vec![("children[].name", "maxLength"), ("name", "maxLength")]));
}

#[test]
fn references_that_double_at_each_level_take_no_time() {
    let mut defs = serde_json::Map::new();
    for level in 0..40 {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
        defs.insert(format!("d{level}"), json!({ "type": "object", "properties": { "a": next, "b": next } }));
    }
    defs.insert("d40".to_owned(), json!({ "type": "string" }));
    let schema = json!({ "$ref": "#/$defs/d0", "$defs": defs });
    let mut other = schema.clone();
    other["$defs"]["d40"] = json!({ "type": "string", "title": "a name" });
    let began = std::time::Instant::now();
    assert_ne!(verdict(&schema, &other).0, Verdict::Breaking);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn a_finding_tells_direction_place_rule_and_an_instance() {
    let published = Schema::parse(
        &object(
            json!({ "lines": { "type": "array", "items": object(json!({ "sku": { "type": "string" } }), json!(["sku"])) } }),
            json!([]),
        )
        .to_string(),
    );
    let new = Schema::parse(
        &object(
            json!({ "lines": { "type": "array", "items": object(json!({ "sku": { "type": "string" } }), json!([])) } }),
            json!([]),
        )
        .to_string(),
    );
    let found = compare(&published.expect("valid"), &new.expect("valid"));
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["forward: lines[]: required: \"sku\" may be absent, and readers require it; for example {\"lines\":[{}]}"]
    );
}

/// The cases of Apicurio Registry (Apache License 2.0), where they are there: the project keeps no copy. Each says whether the schema
/// `updated` reads what `original` describes (`backward`), whether that holds the other way round as well (`both`), or neither (`none`).
#[test]
fn the_cases_of_another_project_are_judged_alike_but_for_those_that_differ_on_purpose() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/json-schema-compatibility-cases.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("the cases are not on this machine");
        return;
    };
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let cases = document["tests"].as_array().expect("a list");
    assert_eq!(cases.len(), 145);
    let mut differing = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let (original, updated) = (&case["original"], &case["updated"]);
        let wanted = case["compatibility"].as_str().expect("a text");
        for (direction, writer, reader, is_compatible) in
            [("reads", original, updated, wanted != "none"), ("is read", updated, original, wanted == "both")]
        {
            // Of an incompatible pair the other direction is not told.
            if wanted == "none" && direction == "is read" {
                continue;
            }
            let (judged, found) = verdict(writer, reader);
            for instance in found.iter().filter_map(|finding| finding.instance.as_ref()) {
                let valid = |schema: &Value| Schema::of_value(schema.clone()).expect("valid").is_valid(instance);
                assert!(valid(writer) && !valid(reader), "{index}: {instance}");
            }
            if (judged == Verdict::Compatible) != is_compatible {
                differing.push(format!("{index} {direction}: {}", judged.as_str()));
            }
        }
    }
    assert_eq!(differing, DIFFERENT.iter().map(|(case, _)| (*case).to_owned()).collect::<Vec<_>>(), "see the reasons in this list");
}

/// Where our verdict is another one, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("36 is read: compatible", CLOSED),
    ("38 is read: compatible", CLOSED),
    ("44 is read: compatible", CLOSED),
    ("54 is read: compatible", CLOSED),
    ("59 is read: compatible", CLOSED),
    ("67 is read: compatible", "a producer emits no items behind a tuple, unless its schema describes them"),
    ("96 reads: compatible", "no value is a text and a list at once, so neither schema lets anything through"),
    ("108 is read: compatible", "both let every value through: what is no text has no length"),
    ("117 reads: breaking", "a text of 6 to 10 characters fits one branch before and two afterwards, and oneOf takes exactly one"),
    ("119 reads: breaking", "a text of up to 5 characters fits one branch before and two afterwards, and oneOf takes exactly one"),
    ("136 is read: compatible", CLOSED),
    ("137 is read: compatible", CLOSED),
    ("141 is read: compatible", "a producer emits no items behind a tuple, unless its schema describes them"),
];

/// The other project lets a producer emit any further member, of any type, and so calls an optional member that is added breaking.
const CLOSED: &str = "a producer emits only members that its schema declares";

/// Small schemas of every kind.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({ "type": "string" })),
        (0_u64..4).prop_map(|n| json!({ "type": "string", "minLength": n })),
        (0_u64..4).prop_map(|n| json!({ "type": "string", "maxLength": n })),
        (-3_i64..4).prop_map(|n| json!({ "type": "integer", "minimum": n })),
        (-3_i64..4).prop_map(|n| json!({ "type": "number", "exclusiveMaximum": n })),
        (1_i64..4).prop_map(|n| json!({ "type": "integer", "multipleOf": n })),
        Just(json!({ "type": ["string", "null"] })),
        Just(json!({ "enum": ["a", "b"] })),
        Just(json!({ "const": 2 })),
        Just(json!(true)),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            (
                prop::collection::btree_map("[ab]", inner.clone(), 0..3),
                prop::sample::subsequence(vec!["a", "b"], 0..=2),
                any::<bool>()
            )
                .prop_map(|(properties, required, is_open)| {
                    let mut schema = json!({ "type": "object", "properties": properties, "required": required });
                    if !is_open {
                        schema["additionalProperties"] = json!(false);
                    }
                    schema
                }),
            (inner.clone(), 0_u64..3).prop_map(|(items, least)| json!({ "type": "array", "items": items, "minItems": least })),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({ "anyOf": [a, b] })),
            (inner.clone(), inner).prop_map(|(a, b)| json!({ "oneOf": [a, b] })),
        ]
    })
}

/// Small values, some of which some of the schemas take.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-4_i64..5).prop_map(Value::from),
        Just(json!(0.5)),
        "[ab]{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|members| json!(members)),
        ]
    })
}

/// Whether the value has only members that the schema declares: what a producer emits.
fn is_emitted(schema: &Value, value: &Value) -> bool {
    match (schema, value) {
        (Value::Object(map), value) => {
            let branches = ["anyOf", "oneOf"].iter().filter_map(|name| map.get(*name)?.as_array()).flatten();
            let mut branches = branches.peekable();
            if branches.peek().is_some() {
                return branches
                    .any(|branch| is_emitted(branch, value) && Schema::of_value(branch.clone()).expect("valid").is_valid(value));
            }
            match value {
                Value::Object(members) => {
                    let declared = map.get("properties").and_then(Value::as_object);
                    let required = map.get("required").and_then(Value::as_array);
                    members.iter().all(|(name, member)| {
                        let known = declared.and_then(|declared| declared.get(name));
                        let is_required = required.is_some_and(|required| required.contains(&json!(name)));
                        known.map_or(is_required, |known| is_emitted(known, member))
                    })
                }
                Value::Array(items) => map.get("items").is_none_or(|schema| items.iter().all(|item| is_emitted(schema, item))),
                _ => true,
            }
        }
        // A schema that says nothing declares no members either.
        (_, Value::Object(members)) => members.is_empty(),
        (_, Value::Array(items)) => items.iter().all(|item| is_emitted(schema, item)),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_called_compatible_is_read_and_what_is_called_breaking_breaks(
        writer in schema(),
        reader in schema(),
        values in prop::collection::vec(value(), 12),
    ) {
        let valid = |schema: &Value, value: &Value| Schema::of_value(schema.clone()).expect("valid").is_valid(value);
        let (judged, found) = verdict(&writer, &reader);
        if judged == Verdict::Compatible {
            for value in values {
                let is_broken = valid(&writer, &value) && is_emitted(&writer, &value) && !valid(&reader, &value);
                prop_assert!(!is_broken, "{} {} {}", writer, reader, value);
            }
        }
        for instance in found.iter().filter_map(|finding| finding.instance.as_ref()) {
            prop_assert!(valid(&writer, instance) && !valid(&reader, instance), "{} {} {}", writer, reader, instance);
        }
    }

    #[test]
    fn every_schema_is_compatible_with_itself(schema in schema()) {
        let (judged, found) = verdict(&schema, &schema);
        prop_assert!(judged != Verdict::Breaking, "{} {:?}", schema, found);
    }
}
