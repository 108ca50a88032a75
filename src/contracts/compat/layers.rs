//! Layers: a schema as the list of all schemas that hold at once, after references and `allOf`, and their combined meaning. Reads
//! and never judges.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::contracts::decimal::Decimal;
use crate::contracts::schema::resolve;

/// Schemas that hold at once for one value.
#[derive(Debug, Clone, Default)]
pub struct Layers<'s> {
    pub layers: Vec<Layer<'s>>,
    /// One of them lets nothing through.
    pub is_false: bool,
}

/// One schema, and the document that its references lead into.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'s> {
    pub map: &'s Map<String, Value>,
    pub root: &'s Value,
    /// Its `anyOf` and `oneOf` are taken apart already.
    pub is_split: bool,
}

/// A type, as JSON Schema has it; `number` includes whole ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// An end of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub value: Decimal,
    pub is_exclusive: bool,
}

impl Kind {
    pub const ALL: [Self; 7] = [Self::Null, Self::Boolean, Self::Integer, Self::Number, Self::String, Self::Array, Self::Object];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl<'s> Layers<'s> {
    /// The schema `value` inside the document `root`.
    pub fn of(value: &'s Value, root: &'s Value) -> Self {
        let mut layers = Self::default();
        layers.add(value, root);
        layers
    }

    /// One more schema that holds as well.
    pub fn add(&mut self, value: &'s Value, root: &'s Value) {
        match value {
            Value::Bool(false) => self.is_false = true,
            Value::Object(map) => {
                if self.layers.iter().any(|layer| std::ptr::eq(layer.map, map)) {
                    return;
                }
                self.layers.push(Layer { map, root, is_split: false });
                let reference = map.get("$ref").and_then(Value::as_str);
                if let Some(target) = reference.and_then(|reference| resolve(root, reference)) {
                    self.add(target, root);
                }
                for part in list(map, "allOf") {
                    self.add(part, root);
                }
            }
            // `true`; what else there may be is no schema and was refused when it was compiled.
            _ => {}
        }
    }

    #[must_use]
    pub fn with(&self, value: &'s Value, root: &'s Value) -> Self {
        let mut layers = self.clone();
        layers.add(value, root);
        layers
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && !self.is_false
    }

    /// Identifies the schemas by where they stand.
    pub fn places(&self) -> Vec<usize> {
        let mut places: Vec<usize> = self.layers.iter().map(|layer| std::ptr::from_ref(layer.map) as usize).collect();
        places.sort_unstable();
        places
    }

    fn values_of(&self, name: &'static str) -> impl Iterator<Item = &'s Value> + '_ {
        self.layers.iter().filter_map(move |layer| layer.map.get(name))
    }

    /// The types that all layers allow; `Number` stands for `Integer`, too.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let mut kinds = BTreeSet::from(Kind::ALL);
        for value in self.values_of("type") {
            let named = kinds_of(value);
            let allowed = |kind: &Kind| named.contains(kind) || (*kind == Kind::Integer && named.contains(&Kind::Number));
            kinds.retain(allowed);
        }
        if kinds.contains(&Kind::Number) {
            kinds.remove(&Kind::Integer);
        }
        kinds
    }

    /// The values, if there is a finite list of them; the other keywords may forbid some.
    pub fn values(&self) -> Option<Vec<Value>> {
        if let Some(value) = self.values_of("const").next() {
            return Some(vec![value.clone()]);
        }
        if let Some(values) = self.values_of("enum").find_map(Value::as_array) {
            return Some(values.clone());
        }
        let kinds = self.kinds();
        if !kinds.iter().all(|kind| matches!(kind, Kind::Null | Kind::Boolean)) {
            return None;
        }
        let all = |kind: &Kind| match kind {
            Kind::Null => vec![Value::Null],
            _ => vec![Value::Bool(true), Value::Bool(false)],
        };
        Some(kinds.iter().flat_map(all).collect())
    }

    /// The largest of these numbers.
    pub fn most(&self, name: &'static str) -> Option<u64> {
        self.values_of(name).filter_map(whole).max()
    }

    /// The smallest of these numbers.
    pub fn least(&self, name: &'static str) -> Option<u64> {
        self.values_of(name).filter_map(whole).min()
    }

    pub fn texts(&self, name: &'static str) -> BTreeSet<&'s str> {
        self.values_of(name).filter_map(Value::as_str).collect()
    }

    pub fn is_true(&self, name: &'static str) -> bool {
        self.values_of(name).any(|value| value == &Value::Bool(true))
    }

    /// The lower end of numbers. Draft 4 says with a boolean whether `minimum` is excluded.
    pub fn lower(&self, is_whole: bool) -> Option<Bound> {
        let bounds = self.layers.iter().flat_map(|layer| bounds(layer.map, "minimum", "exclusiveMinimum"));
        let bound = bounds.max_by(|a, b| a.value.cmp(&b.value).then(a.is_exclusive.cmp(&b.is_exclusive)))?;
        Some(if is_whole { bound.of_whole_numbers("1") } else { bound })
    }

    /// The upper end of numbers.
    pub fn upper(&self, is_whole: bool) -> Option<Bound> {
        let bounds = self.layers.iter().flat_map(|layer| bounds(layer.map, "maximum", "exclusiveMaximum"));
        let bound = bounds.min_by(|a, b| a.value.cmp(&b.value).then(b.is_exclusive.cmp(&a.is_exclusive)))?;
        Some(if is_whole { bound.of_whole_numbers("-1") } else { bound })
    }

    pub fn factors(&self) -> Vec<Decimal> {
        self.values_of("multipleOf").filter_map(|value| Decimal::parse(&value.to_string())).collect()
    }

    pub fn required(&self) -> BTreeSet<&'s str> {
        self.layers.iter().flat_map(|layer| names(layer.map, "required")).collect()
    }

    /// Members that the schema speaks of by name.
    pub fn declared(&self) -> BTreeSet<&'s str> {
        let properties = self.values_of("properties").filter_map(Value::as_object).flat_map(Map::keys).map(String::as_str);
        properties.chain(self.required()).collect()
    }

    /// What holds for the member of this name.
    pub fn member(&self, name: &str) -> Layers<'s> {
        let mut found = Layers::default();
        for layer in &self.layers {
            let mut is_named = false;
            if let Some(value) = object(layer.map, "properties").and_then(|properties| properties.get(name)) {
                found.add(value, layer.root);
                is_named = true;
            }
            for (pattern, value) in object(layer.map, "patternProperties").into_iter().flatten() {
                if does_match(pattern, name) {
                    found.add(value, layer.root);
                    is_named = true;
                }
            }
            if let Some(value) = layer.map.get("additionalProperties").filter(|_| !is_named) {
                found.add(value, layer.root);
            }
        }
        found
    }

    /// The patterns of member names, each with what holds for it.
    pub fn patterns(&self) -> BTreeMap<&'s str, Layers<'s>> {
        let mut found: BTreeMap<&str, Layers<'s>> = BTreeMap::new();
        for layer in &self.layers {
            for (pattern, value) in object(layer.map, "patternProperties").into_iter().flatten() {
                found.entry(pattern).or_default().add(value, layer.root);
            }
        }
        found
    }

    /// What holds for members that nothing names, if a schema describes them. `None`: a producer emits none.
    pub fn further_members(&self) -> Option<Layers<'s>> {
        let mut found = Layers::default();
        for layer in &self.layers {
            if let Some(value @ Value::Object(_)) = layer.map.get("additionalProperties") {
                found.add(value, layer.root);
            }
        }
        (!found.layers.is_empty()).then_some(found)
    }

    /// What holds for members that nothing names, as a reader sees it.
    pub fn any_further_member(&self) -> Layers<'s> {
        let mut found = Layers::default();
        for layer in &self.layers {
            if let Some(value) = layer.map.get("additionalProperties") {
                found.add(value, layer.root);
            }
        }
        found
    }

    /// Items with a schema of their own, by their place.
    pub fn tuple_length(&self) -> usize {
        self.layers.iter().map(|layer| tuple(layer.map).len()).max().unwrap_or(0)
    }

    /// What holds for the item at this place.
    pub fn item(&self, at: usize) -> Layers<'s> {
        let mut found = Layers::default();
        for layer in &self.layers {
            if let Some(value) = tuple(layer.map).get(at).or_else(|| rest(layer.map)) {
                found.add(value, layer.root);
            }
        }
        found
    }

    /// Whether items behind the tuple are described; a producer of a bare tuple emits none.
    pub fn has_further_items(&self) -> bool {
        self.layers.iter().any(|layer| rest(layer.map).is_some_and(|value| value != &Value::Bool(false)))
    }

    /// Names that must come with a name.
    pub fn needed_with(&self, name: &str) -> BTreeSet<&'s str> {
        let of_layer = |layer: &Layer<'s>| {
            let lists = ["dependentRequired", "dependencies"].into_iter().filter_map(|keyword| object(layer.map, keyword));
            lists.filter_map(|lists| lists.get(name)?.as_array()).flatten().filter_map(Value::as_str).collect::<Vec<_>>()
        };
        self.layers.iter().flat_map(of_layer).collect()
    }
}

impl Bound {
    /// For whole numbers `> 10` is `>= 11`.
    fn of_whole_numbers(self, step: &str) -> Self {
        let Some(whole) = self.value.to_integer().filter(|_| self.is_exclusive) else { return self };
        let next = whole.to_string().parse::<i128>().ok().zip(step.parse::<i128>().ok());
        let next = next.and_then(|(whole, step)| Decimal::parse(&(whole + step).to_string()));
        next.map_or(self, |value| Self { value, is_exclusive: false })
    }
}

/// The schemas in a list.
pub fn list<'s>(map: &'s Map<String, Value>, name: &str) -> &'s [Value] {
    map.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn object<'s>(map: &'s Map<String, Value>, name: &str) -> Option<&'s Map<String, Value>> {
    map.get(name).and_then(Value::as_object)
}

/// Whether a pattern finds something in the name. One that is no regular expression was refused before.
pub fn does_match(pattern: &str, name: &str) -> bool {
    super::witness::is_valid_value(&serde_json::json!({ "pattern": pattern }), &Value::from(name))
}

fn names<'s>(map: &'s Map<String, Value>, name: &str) -> Vec<&'s str> {
    list(map, name).iter().filter_map(Value::as_str).collect()
}

fn kinds_of(value: &Value) -> BTreeSet<Kind> {
    let named = |value: &Value| Kind::ALL.into_iter().find(|kind| Some(kind.as_str()) == value.as_str());
    match value {
        Value::Array(list) => list.iter().filter_map(named).collect(),
        other => named(other).into_iter().collect(),
    }
}

fn whole(value: &Value) -> Option<u64> {
    // Older drafts let 5.0 stand for 5.
    value.as_u64().or_else(|| Decimal::parse(&value.to_string())?.to_integer()?.to_string().parse().ok())
}

fn bounds(map: &Map<String, Value>, name: &str, exclusive: &str) -> Vec<Bound> {
    let number = |value: &Value| value.is_number().then(|| Decimal::parse(&value.to_string())).flatten();
    let is_exclusive = map.get(exclusive) == Some(&Value::Bool(true));
    let own = map.get(name).and_then(number).map(|value| Bound { value, is_exclusive });
    let other = map.get(exclusive).and_then(number).map(|value| Bound { value, is_exclusive: true });
    own.into_iter().chain(other).collect()
}

fn tuple(map: &Map<String, Value>) -> &[Value] {
    match map.get("prefixItems").or_else(|| map.get("items")) {
        Some(Value::Array(items)) => items,
        _ => &[],
    }
}

fn rest(map: &Map<String, Value>) -> Option<&Value> {
    match map.get("items") {
        Some(Value::Array(_)) => map.get("additionalItems"),
        other => other,
    }
}
