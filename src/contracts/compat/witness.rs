//! Witnesses: values that a producer may emit, made up from its schema, and the judgement of a validator about them. A change is called
//! breaking only if a validator accepts a value under the one schema and refuses it under the other.

use serde_json::{Map, Value, json};

use super::layers::{Kind, Layers, does_match};
use crate::contracts::decimal::Decimal;
use crate::contracts::schema::Schema;

/// Members and items within one another that are made up at most: a schema may need itself for ever.
const DEEPEST: usize = 6;
/// Characters of the texts that are tried one by one.
const LONGEST_SAMPLE: usize = 24;
/// Items and characters that are made up at most.
const MOST: usize = 5_000;

/// The first of these values that the producer emits and the reader refuses.
pub fn witness(writer: &Layers<'_>, reader: &Layers<'_>, candidates: impl IntoIterator<Item = Value>) -> Option<Value> {
    let mut candidates = candidates.into_iter().peekable();
    // Most comparisons need no witness, and compiling costs more than all the rest.
    candidates.peek()?;
    let (writer, reader) = (judge(writer)?, judge(reader)?);
    candidates.find(|value| writer(value) && !reader(value))
}

/// What a validator says of a value.
type Judge = Box<dyn Fn(&Value) -> bool>;

/// Whether every layer lets the value through. `None`: they could not be compiled on their own.
pub fn judge(layers: &Layers<'_>) -> Option<Judge> {
    if layers.is_false {
        return Some(Box::new(|_| false));
    }
    let mut validators = Vec::new();
    for layer in &layers.layers {
        validators.push(Schema::of_value(standalone(layer.map, layer.root)).ok()?);
    }
    Some(Box::new(move |value| validators.iter().all(|validator| validator.is_valid(value))))
}

/// Whether a small schema without references lets the value through.
pub fn is_valid_value(schema: &Value, value: &Value) -> bool {
    Schema::of_value(schema.clone()).is_ok_and(|schema| schema.is_valid(value))
}

/// A part of a schema as a schema of its own: what its references lead to comes along.
fn standalone(map: &Map<String, Value>, root: &Value) -> Value {
    let part = Value::Object(map.clone());
    if !has_reference(&part) {
        let mut part = part;
        if let (Some(part), Some(dialect)) = (part.as_object_mut(), root.get("$schema")) {
            part.insert("$schema".to_owned(), dialect.clone());
        }
        return part;
    }
    let (mut part, mut whole) = (part, root.clone());
    redirect(&mut part);
    redirect(&mut whole);
    for schema in [&mut part, &mut whole] {
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("$schema");
            // A base of its own would make the references relative to it; an anchor in old style stays.
            if schema.get("$id").and_then(Value::as_str).is_some_and(|id| !id.starts_with('#')) {
                schema.remove("$id");
            }
        }
    }
    let mut made = json!({ "allOf": [part], "$defs": { "whole": whole } });
    if let Some(dialect) = root.get("$schema") {
        made["$schema"] = dialect.clone();
    }
    made
}

fn has_reference(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.contains_key("$ref") || members.values().any(has_reference),
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

fn redirect(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" && (reference == "#" || reference.starts_with("#/")) => {
                        *reference = format!("#/$defs/whole{}", &reference[1..]);
                    }
                    other => redirect(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redirect),
        _ => {}
    }
}

/// Some values of this type that the layers seem to allow; whether they do is the validator's to say.
pub fn samples(layers: &Layers<'_>, kind: Kind) -> Vec<Value> {
    let made = (0..4).filter_map(|seed| sample_of(layers, kind, seed, 0));
    // Texts of every length up to some: where branches overlap, one of them may be too long for one and too short for another.
    let lengths = 0..=if kind == Kind::String { LONGEST_SAMPLE } else { 0 };
    made.chain(lengths.filter(|_| kind == Kind::String).filter_map(|length| text(layers, length, 0)))
        .chain(suggested(layers, kind))
        .collect()
}

/// One value that the layers seem to allow; other seeds make other values.
pub fn sample(layers: &Layers<'_>, seed: usize) -> Option<Value> {
    sample_at(layers, seed, 0)
}

fn sample_at(layers: &Layers<'_>, seed: usize, depth: usize) -> Option<Value> {
    if layers.is_false || depth > DEEPEST {
        return None;
    }
    if let Some(values) = layers.values() {
        return values.get(seed % values.len().max(1)).cloned();
    }
    for (place, layer) in layers.layers.iter().enumerate().filter(|(_, layer)| !layer.is_split) {
        let branches = ["anyOf", "oneOf"].into_iter().map(|name| super::layers::list(layer.map, name));
        // Any branch will do; the validator judges.
        if let Some(value) = branches.filter_map(|list| list.get(seed % list.len().max(1))).next() {
            let mut with = layers.clone();
            with.layers[place].is_split = true;
            with.add(value, layer.root);
            return sample_at(&with, seed, depth + 1);
        }
    }
    let kinds = layers.kinds();
    let kind = kinds.iter().next_back()?;
    suggested(layers, *kind).into_iter().next().filter(|_| seed == 0).or_else(|| sample_of(layers, *kind, seed, depth))
}

/// What the schema itself gives as examples.
fn suggested(layers: &Layers<'_>, kind: Kind) -> Vec<Value> {
    let of_layer = |layer: &super::layers::Layer<'_>| {
        let examples = super::layers::list(layer.map, "examples").iter().cloned();
        examples.chain(layer.map.get("default").cloned()).collect::<Vec<_>>()
    };
    let is_of_kind = |value: &Value| match kind {
        Kind::Null => value.is_null(),
        Kind::Boolean => value.is_boolean(),
        Kind::Integer | Kind::Number => value.is_number(),
        Kind::String => value.is_string(),
        Kind::Array => value.is_array(),
        Kind::Object => value.is_object(),
    };
    layers.layers.iter().flat_map(of_layer).filter(is_of_kind).collect()
}

fn sample_of(layers: &Layers<'_>, kind: Kind, seed: usize, depth: usize) -> Option<Value> {
    Some(match kind {
        Kind::Null => Value::Null,
        Kind::Boolean => Value::Bool(seed.is_multiple_of(2)),
        Kind::Integer | Kind::Number => number(layers, kind == Kind::Integer, seed)?,
        Kind::String => text(layers, usize::try_from(layers.most("minLength").unwrap_or(0)).ok()?, seed)?,
        Kind::Array => array(layers, None, seed, depth)?,
        Kind::Object => object(layers, &[], seed, depth)?,
    })
}

/// A number as JSON.
pub fn json_number(decimal: &Decimal) -> Option<Value> {
    serde_json::from_str(&decimal.to_string()).ok()
}

fn number(layers: &Layers<'_>, is_whole: bool, seed: usize) -> Option<Value> {
    let factor = layers.factors().into_iter().next();
    if let Some(factor) = factor {
        // The first multiple that lies in the range.
        let within = |value: &Decimal| {
            layers.lower(is_whole).is_none_or(|bound| if bound.is_exclusive { *value > bound.value } else { *value >= bound.value })
                && layers
                    .upper(is_whole)
                    .is_none_or(|bound| if bound.is_exclusive { *value < bound.value } else { *value <= bound.value })
        };
        let times = |n: i64| Decimal::parse(&n.to_string()).and_then(|n| factor.times(&n));
        let multiples = (1..200).flat_map(|n| [n, -n]).filter_map(times).filter(within);
        return json_number(&multiples.into_iter().nth(seed)?);
    }
    let seed = i128::try_from(seed).ok()?;
    let near = |bound: super::layers::Bound, step: i128| {
        let whole = bound.value.to_string().split('.').next()?.parse::<i128>().ok()?;
        Decimal::parse(&(whole + step).to_string())
    };
    let value = match (layers.lower(is_whole), layers.upper(is_whole)) {
        (Some(lower), _) => {
            let step = i128::from(lower.is_exclusive || lower.value.to_integer().is_none()) + seed;
            near(lower, step)?
        }
        (None, Some(upper)) => near(upper, -1 - seed)?,
        (None, None) => Decimal::parse(&seed.to_string())?,
    };
    json_number(&value)
}

/// A text of this length, in characters, or what its format asks for.
pub fn text(layers: &Layers<'_>, length: usize, seed: usize) -> Option<Value> {
    if length > MOST {
        return None;
    }
    for format in layers.texts("format") {
        let made = match format {
            "date-time" => Some(format!("2026-01-0{}T00:00:00Z", 1 + seed % 9)),
            "date" => Some(format!("2026-01-0{}", 1 + seed % 9)),
            "time" => Some("00:00:00Z".to_owned()),
            "email" => Some(format!("a{seed}@example.org")),
            "uuid" => Some(format!("0190163d-8694-739b-aea5-966c26f8ad0{}", seed % 10)),
            "uri" | "uri-reference" | "iri" => Some(format!("https://example.org/{seed}")),
            "hostname" => Some("example.org".to_owned()),
            "ipv4" => Some("192.0.2.1".to_owned()),
            "ipv6" => Some("2001:db8::1".to_owned()),
            "duration" => Some("P1D".to_owned()),
            _ => None,
        };
        if let Some(made) = made {
            return Some(Value::from(made));
        }
    }
    let fill = ["a", "A", "0", "é"][seed % 4];
    let mut candidates = vec![fill.repeat(length)];
    if !layers.texts("pattern").is_empty() {
        let ready =
            ["a", "A", "0", "AB", "ab", "abc", "ABC", "12", "123", "12.50", "0.01", "EUR", "a-1", "A-1", "ABC-123", "x@y.z"];
        candidates.extend(ready.map(str::to_owned));
        candidates.extend((1..40).flat_map(|n| ["a", "A", "0"].map(|fill| fill.repeat(n))));
    }
    let patterns = layers.texts("pattern");
    let fits = |text: &String| patterns.iter().all(|pattern| does_match(pattern, text));
    let mut fitting = candidates.iter().filter(|text| patterns.is_empty() || fits(text));
    fitting.next().cloned().map(Value::from)
}

/// A list with as many items as there must be, and at one place this item.
pub fn array(layers: &Layers<'_>, with: Option<(usize, Value)>, seed: usize, depth: usize) -> Option<Value> {
    let least = usize::try_from(layers.most("minItems").unwrap_or(0)).ok()?;
    let length = least.max(with.as_ref().map_or(0, |(at, _)| at + 1));
    array_of(layers, length, with, seed, depth)
}

/// A list with this many items.
pub fn array_of(layers: &Layers<'_>, length: usize, with: Option<(usize, Value)>, seed: usize, depth: usize) -> Option<Value> {
    if length > MOST {
        return None;
    }
    let item = |at: usize| match &with {
        Some((place, value)) if *place == at => Some(value.clone()),
        _ => sample_at(&layers.item(at), seed + at, depth + 1),
    };
    let contained = layers.layers.iter().find_map(|layer| Some(Layers::of(layer.map.get("contains")?, layer.root)));
    let mut items = (0..length).map(item).collect::<Option<Vec<_>>>()?;
    if let (Some(contained), true) = (contained, items.is_empty()) {
        items.push(sample_at(&contained, seed, depth + 1)?);
    }
    Some(Value::Array(items))
}

/// An object with the members that must be there, and with these.
pub fn object(layers: &Layers<'_>, with: &[(&str, Option<Value>)], seed: usize, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    let mut members = Map::new();
    let mut wanted: Vec<&str> = layers.required().into_iter().collect();
    wanted.extend(with.iter().map(|(name, _)| *name));
    let mut at = 0;
    while let Some(name) = wanted.get(at).copied() {
        at += 1;
        if members.contains_key(name) || at > MOST {
            continue;
        }
        let given = with.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone());
        members.insert(name.to_owned(), given.or_else(|| sample_at(&layers.member(name), seed, depth + 1))?);
        wanted.extend(layers.needed_with(name));
    }
    let least = usize::try_from(layers.most("minProperties").unwrap_or(0)).ok()?;
    let further = layers.declared().into_iter().map(str::to_owned).chain((0..least.min(MOST)).map(|n| format!("p{n}")));
    for name in further {
        if members.len() >= least {
            break;
        }
        if let Some(value) = sample_at(&layers.member(&name), seed, depth + 1).filter(|_| !members.contains_key(&name)) {
            members.insert(name, value);
        }
    }
    Some(Value::Object(members))
}
