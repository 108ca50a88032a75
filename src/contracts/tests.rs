//! The registry and its casts on a contract as a shop has it, and on generated payloads.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const V1: &str = r##"{"type":"object","required":["id","total","status"],"properties":{
    "id":{"type":"string"},"total":{"type":"string","pattern":"^-?[0-9]+\\.[0-9][0-9]$"},
    "status":{"enum":["new","paid"]},"street":{"type":"string"},"city":{"type":"string"},
    "lines":{"type":"array","items":{"$ref":"#/$defs/line"}}},
    "$defs":{"line":{"type":"object","required":["sku","count"],"properties":{"sku":{"type":"string"},"count":{"type":"string","pattern":"^(0|[1-9][0-9]*)$"}}}}}"##;
const V2: &str = r##"{"type":"object","required":["order_id","total_cents","status","currency"],"properties":{
    "order_id":{"type":"string"},"total_cents":{"type":"integer"},"status":{"enum":["created","settled"]},
    "currency":{"type":"string"},
    "address":{"type":"object","properties":{"street":{"type":"string"},"city":{"type":"string"}}},
    "lines":{"type":"array","items":{"$ref":"#/$defs/line"}}},
    "$defs":{"line":{"type":"object","required":["article","count"],"properties":{"article":{"type":"string"},"count":{"type":"integer"}}}}}"##;

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::rename(path(from), to).expect("valid")
}

fn scale(from: &str, to: &str, by: &str, form: ScalarType) -> Operation {
    Operation::scale(path(from), Some(to), Decimal::parse(by).expect("a number"), Some(form)).expect("valid")
}

fn map(text: &str, pairs: &[(&str, &str)]) -> Operation {
    let values = pairs.iter().map(|(from, to)| ((*from).to_owned(), format!("\"{to}\""))).collect();
    Operation::Map { path: path(text), values, otherwise: None }
}

fn up() -> Cast {
    Cast::new(
        vec![
            rename("id", "order_id"),
            scale("total", "total_cents", "100", ScalarType::Integer),
            map("status", &[("new", "created"), ("paid", "settled")]),
            Operation::nest(vec![path("street"), path("city")], "address").expect("valid"),
            Operation::Default { path: path("currency"), value: "\"EUR\"".to_owned() },
            rename("lines[].sku", "article"),
            Operation::Cast { path: path("lines[].count"), to: ScalarType::Integer },
        ],
        vec![],
    )
}

fn down(loses: &[&str]) -> Cast {
    Cast::new(
        vec![
            rename("order_id", "id"),
            scale("total_cents", "total", "0.01", ScalarType::Text),
            map("status", &[("created", "new"), ("settled", "paid")]),
            Operation::Unnest { path: path("address") },
            Operation::Drop { path: path("currency") },
            rename("lines[].article", "sku"),
            Operation::Cast { path: path("lines[].count"), to: ScalarType::Text },
        ],
        loses.iter().map(|text| path(text)).collect(),
    )
}

fn version(number: u32, schema: &str) -> Version {
    Version {
        number,
        state: State::Active,
        schema: Arc::new(Schema::parse(schema).expect("valid")),
        examples: Vec::new(),
        deprecation: None,
        from_previous: None,
        from_next: None,
        allows: BTreeMap::new(),
        brownouts: vec![],
    }
}

fn contract(versions: Vec<Version>) -> Contract {
    let versions: BTreeMap<u32, Version> = versions.into_iter().map(|version| (version.number, version)).collect();
    Contract { event_type: "order.placed".to_owned(), owner: None, versions }
}

fn two() -> (Version, Version) {
    (Version { from_next: Some(down(&["currency"])), ..version(1, V1) }, Version { from_previous: Some(up()), ..version(2, V2) })
}

fn faults(versions: Vec<Version>) -> Vec<String> {
    let faults = Registry::new(vec![contract(versions)]).err().unwrap_or_default();
    faults.into_iter().map(|fault| format!("{}: {}", fault.place, fault.text)).collect()
}

fn example(text: &str) -> Vec<Example> {
    vec![Example { name: "a.json".to_owned(), text: text.to_owned() }]
}

const OLD: &str = r#"{"x":9007199254740993,"id":"o-1","total":"12.50","status":"new","lines":[{"sku":"s","count":"2","free" : [ 1 ]}],"city":"Ulm"}"#;

#[test]
fn an_event_is_rendered_in_every_version() {
    let (one, two) = two();
    let registry = Registry::new(vec![contract(vec![one, two])]).expect("no fault");
    let render = |from, to, payload: &str| registry.render("order.placed", from, to, payload).map(|payload| payload.into_owned());
    let new = r#"{"x":9007199254740993,"order_id":"o-1","total_cents":1250,"status":"created","lines":[{"article":"s","count":2,"free":[ 1 ]}],"address":{"city":"Ulm"},"currency":"EUR"}"#;
    assert_eq!(render(1, 2, OLD).as_deref(), Ok(new));
    assert_eq!(render(2, 1, new).as_deref(), Ok(&*OLD.replace("\"free\" : ", "\"free\":")));
    assert_eq!(render(1, 1, " {\"not even\":valid").as_deref(), Ok(" {\"not even\":valid"), "an equal version is not looked at");
}

#[test]
fn what_cannot_be_rendered_says_why_without_a_value() {
    let (one, two) = two();
    let retired = Version { state: State::Retired, from_next: None, ..one };
    let registry = Registry::new(vec![contract(vec![retired, two])]).expect("nothing has to become version 1 any more");
    let render = |from, to, payload: &str| {
        let error = registry.render("order.placed", from, to, payload).expect_err("it cannot be");
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    assert_eq!(render(1, 7, OLD), "the contract order.placed has no version 7; it has 1 and 2");
    assert_eq!(render(2, 1, OLD), "order.placed@1 is retired, and is not sent");
    let odd = OLD.replace("12.50", "12.505");
    assert_eq!(
        render(1, 2, &odd),
        "order.placed@1 could not be cast to version 2: scale \"total\": the value is not a whole number when it is multiplied, and a \
         cast does not round"
    );
    let wrong = OLD.replace("\"o-1\"", "4711");
    let told = render(1, 2, &wrong);
    assert!(told.starts_with("order.placed@1, cast to version 2, is not valid there: /order_id: "), "{told}");
    assert!(!told.contains("4711"), "{told}");
}

#[test]
fn contracts_are_checked_as_a_whole() {
    let date = |text: &str| text.parse::<jiff::civil::Date>().expect("a date");
    let ending = |sunset: &str, successor| {
        Some(Deprecation { since: date("2026-03-01"), sunset: Some(date(sunset)), successor: Some(successor), link: None })
    };
    let (one, two) = (|| two().0, || two().1);
    for (versions, want) in [
        (
            vec![one(), Version { from_previous: None, ..two() }],
            "order.placed@2: version 1 may be in the log and cannot become version 2",
        ),
        (
            vec![Version { from_next: None, ..one() }, two()],
            "order.placed@1: version 2 may be in the log and cannot become version 1",
        ),
        (vec![Version { from_previous: Some(up()), ..one() }, two()], "order.placed@1.from_previous: there is no earlier version"),
        (vec![Version { state: State::Deprecated, ..one() }, two()], "order.placed@1: is deprecated, and says neither since when"),
        (
            vec![Version { state: State::Deprecated, deprecation: ending("2026-02-01", 2), ..one() }, two()],
            "order.placed@1: the sunset 2026-02-01 is before the deprecation 2026-03-01",
        ),
        (
            vec![Version { state: State::Deprecated, deprecation: ending("2026-12-31", 3), ..one() }, two()],
            "order.placed@1: the successor 3 is no version; there are 1 and 2",
        ),
        (
            vec![Version { deprecation: ending("2026-12-31", 2), ..one() }, two()],
            "order.placed@1: is active, and has dates of a deprecation",
        ),
        (
            vec![Version { examples: example(r#"{"id":1}"#), ..one() }, two()],
            "order.placed@1: example a.json: is not valid under its own schema",
        ),
        (vec![Version { examples: example(&OLD.replace("\"2\"", "\"999\"")), ..one() }, two()], ""),
        (
            vec![
                Version { from_next: Some(down(&[])), ..one() },
                Version { examples: example(r#"{"order_id":"o","total_cents":1,"status":"created","currency":"USD"}"#), ..two() },
            ],
            "order.placed@2: example a.json: does not come back from version 1: \"currency\" differs; mend the casts, or declare it in \
             from_next of version 1 with loses = [...]",
        ),
    ] {
        let told = faults(versions);
        match want {
            "" => assert_eq!(told, Vec::<String>::new()),
            want => assert!(told.len() == 1 && told[0].starts_with(want), "{want}: {told:?}"),
        }
    }
}

#[test]
fn a_long_chain_is_composed_once() {
    let schema = |name: &str| {
        format!("{{\"type\":\"object\",\"required\":[\"{name}\"],\"properties\":{{\"{name}\":{{\"type\":\"integer\"}}}}}}")
    };
    let versions = (1..=9).map(|number| Version {
        from_previous: (number > 1).then(|| Cast::new(vec![rename(&format!("n{}", number - 1), &format!("n{number}"))], vec![])),
        from_next: (number < 9).then(|| Cast::new(vec![rename(&format!("n{}", number + 1), &format!("n{number}"))], vec![])),
        examples: example(&format!("{{\"n{number}\":1}}")),
        ..version(number, &schema(&format!("n{number}")))
    });
    let registry = Registry::new(vec![contract(versions.collect())]).unwrap_or_else(|faults| panic!("{faults:?}"));
    let render = |from, to, payload: &str| registry.render("order.placed", from, to, payload).map(|payload| payload.into_owned());
    assert_eq!(render(1, 9, r#"{"n1":18446744073709551617}"#).as_deref(), Ok(r#"{"n9":18446744073709551617}"#));
    assert_eq!(render(7, 2, r#"{"n7":7}"#).as_deref(), Ok(r#"{"n2":7}"#));
}

/// A text as JSON, plain or with escapes.
fn json_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,8}", any::<String>(), Just("\u{1F600}".to_owned())].prop_map(|text| Value::from(text).to_string())
}

/// Any JSON, with the white space and the numbers that a producer may write.
fn anything() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?",
        Just("1e400".to_owned()),
        json_text(),
        Just("\"\\u0061\\ud83d\\ude00\\/\"".to_owned()),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {}]", items.join(" ,\n"))),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\" :{value}")).collect();
                format!("{{{} }}", members.join(", "))
            }),
        ]
    })
}

/// Payloads of version 1, with members that no cast names.
fn payload() -> impl Strategy<Value = (String, Vec<String>)> {
    let line = (json_text(), 0_u64..u64::MAX, prop::option::of(anything())).prop_map(|(sku, count, free)| {
        let free = free.map(|free| format!(",\"free\": {free}")).unwrap_or_default();
        format!("{{\"sku\":{sku},\"count\":\"{count}\"{free}}}")
    });
    let total = (any::<i64>(), 0_u8..100).prop_map(|(whole, cents)| format!("{whole}.{cents:02}"));
    (
        json_text(),
        total,
        prop::sample::select(vec!["new", "paid"]),
        prop::option::of(prop::collection::vec(line, 0..4)),
        prop::option::of(json_text()),
        prop::option::of(json_text()),
        prop::collection::vec(anything(), 0..3),
    )
        .prop_map(|(id, total, status, lines, street, city, free)| {
            let mut members = vec![format!("\"id\": {id}"), format!("\"total\":\"{total}\""), format!("\"status\" :\"{status}\"")];
            members.extend(lines.map(|lines| format!("\"lines\":[{}]", lines.join(", "))));
            members.extend(street.map(|street| format!("\"street\":{street}")));
            members.extend(city.map(|city| format!("\"city\":{city}")));
            members.extend(free.iter().enumerate().map(|(index, value)| format!("\"free{index}\": {value}")));
            (format!("{{{}}}", members.join(" , ")), free)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2_000 } else { 100_000 }))]

    #[test]
    fn there_and_back_keeps_what_is_not_declared_lost((payload, free) in payload()) {
        let there = up().apply(&payload).map_err(|error| TestCaseError::fail(format!("{payload}: {error}")))?;
        let back = down(&[]).apply(&there).map_err(|error| TestCaseError::fail(format!("{there}: {error}")))?;
        let lost = differences(&payload, &back).expect("JSON");
        prop_assert_eq!(lost, vec![], "{} {} {}", payload, there, back);
        // What no cast names stays byte for byte.
        for value in free {
            prop_assert!(there.contains(&value) && back.contains(&value), "{} {} {}", payload, there, back);
        }
    }

    #[test]
    fn a_cast_fails_or_gives_exactly_the_product(
        number in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?",
        by in prop::sample::select(vec!["100", "0.01", "0.001", "3", "-7.5"]),
    ) {
        let cast = Cast::new(vec![scale("n", "m", by, ScalarType::Integer)], vec![]);
        let product = Decimal::parse(&number).expect("a number").times(&Decimal::parse(by).expect("a number")).expect("short");
        match cast.apply(&format!("{{\"n\":{number}}}")) {
            Ok(payload) => prop_assert_eq!(payload, format!("{{\"m\":{}}}", product.to_integer().expect("whole"))),
            Err(_) => prop_assert!(product.to_integer().is_none()),
        }
    }

    #[test]
    fn no_payload_makes_a_cast_panic(payload in ".*") {
        let _ = up().apply(&payload);
        let _ = down(&[]).apply(&format!("{{\"address\":{payload},\"lines\":[{payload}]}}"));
    }
}
