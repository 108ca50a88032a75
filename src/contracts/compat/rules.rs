//! The rules: for each keyword of the reader's schema, the keywords of the producer's schema that imply it, and the value that
//! shows that none does. A rule that finds no such value leaves the question open. A long file: the rules of one recursion,
//! grouped by type.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::layers::{Bound, Kind, Layer, Layers, list, object};
use super::witness::{array, array_of, json_number, judge, sample, samples, text, witness};
use crate::contracts::decimal::Decimal;

/// Branches of `anyOf` and `oneOf` that are looked at in one comparison.
const MOST_BRANCHES: usize = 256;
/// Schemas within one another.
const DEEPEST: usize = 40;
/// Pairs of schemas that are compared at most.
const MOST_COMPARED: usize = 5_000;
/// Findings that are reported of one pair; an author fixes them one after the other.
const MOST_FOUND: usize = 20;
/// Lengths and counts up to which values are made up.
const MOST: u64 = 4_000;

/// One thing that a reader may not bear, seen from where the comparison stands.
#[derive(Debug, Clone)]
pub struct Local {
    pub path: String,
    pub rule: &'static str,
    pub text: String,
    /// A value for the place where the comparison stands.
    pub instance: Option<Value>,
}

impl Local {
    fn new(rule: &'static str, text: impl Into<String>, instance: Option<Value>) -> Self {
        Self { path: String::new(), rule, text: text.into(), instance }
    }
}

/// A writer and a reader by the places of their schemas, and whether the writer is open.
type Pair = (Vec<usize>, Vec<usize>, bool);

/// A comparison under way.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Pairs that are being compared: a schema that contains itself is compared once.
    assumed: Vec<Pair>,
    /// What came of pairs that were compared: a schema that is referred to often is compared once. What a proof has assumed is found
    /// wanting elsewhere, or holds.
    settled: BTreeMap<Pair, Vec<Local>>,
    compared: usize,
    branches: usize,
    /// Inside `not` and `contains` a schema describes what there is, and not what a producer emits.
    is_open: bool,
}

impl Comparison {
    /// What the writer allows and the reader refuses. Nothing found is a proof that there is nothing.
    pub fn contained(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        if writer.is_false || reader.is_empty() {
            return Vec::new();
        }
        if reader.is_false {
            let instance = sample(writer, 0);
            return vec![Local::new("false", "no value at all is allowed here", instance)];
        }
        let pair = (writer.places(), reader.places(), self.is_open);
        if self.assumed.contains(&pair) {
            return Vec::new();
        }
        if let Some(found) = self.settled.get(&pair) {
            return found.clone();
        }
        self.compared += 1;
        if self.assumed.len() >= DEEPEST || self.compared > MOST_COMPARED {
            return vec![Local::new("depth", "the schemas are nested too deeply, or too large, to be compared", None)];
        }
        self.assumed.push(pair.clone());
        let mut found = self.contained_here(writer, reader);
        self.assumed.pop();
        found.truncate(MOST_FOUND);
        self.settled.insert(pair, found.clone());
        found
    }

    fn contained_here(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        if let Some(values) = writer.values() {
            return each_value(writer, reader, values);
        }
        if let Some(found) = self.split(writer, reader) {
            return found;
        }
        writer.kinds().into_iter().flat_map(|kind| self.contained_of_kind(writer, reader, kind)).collect()
    }

    /// Compares branch by branch, if the writer has any that the reader does not have as well.
    fn split(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Option<Vec<Local>> {
        let (place, keyword) =
            writer.layers.iter().enumerate().filter(|(_, layer)| !layer.is_split).find_map(|(place, layer)| {
                let keyword = ["anyOf", "oneOf"].into_iter().find(|name| !list(layer.map, name).is_empty())?;
                Some((place, keyword))
            })?;
        let layer = writer.layers[place];
        let mut without = writer.clone();
        without.layers[place].is_split = true;
        let branches = list(layer.map, keyword);
        let is_in_both = reader.layers.iter().any(|other| is_same_set(branches, list(other.map, keyword)));
        if is_in_both && !has_reference(branches) {
            // What both say in the same words needs no branch; the rest is compared as if it were not there.
            return Some(self.contained_here(&without, reader));
        }
        let mut found = Vec::new();
        for branch in branches {
            self.branches += 1;
            if self.branches > MOST_BRANCHES {
                found.push(Local::new(keyword_name(keyword), "there are too many branches to be compared", None));
                break;
            }
            found.extend(self.contained_here(&without.with(branch, layer.root), reader));
        }
        Some(found)
    }

    fn contained_of_kind(&mut self, writer: &Layers<'_>, reader: &Layers<'_>, kind: Kind) -> Vec<Local> {
        let mut found = Vec::new();
        if let Some(local) = kind_is_read(writer, reader, kind) {
            return vec![local];
        }
        if let Some(values) = reader.layers.iter().find_map(|layer| layer.map.get("enum").or_else(|| layer.map.get("const"))) {
            let instance = witness(writer, reader, samples(writer, kind));
            found.push(Local::new("enum", format!("got any {}, readers know only {values}", kind.as_str()), instance));
        }
        found.extend(match kind {
            Kind::String => strings(writer, reader),
            Kind::Integer | Kind::Number => numbers(writer, reader, kind),
            Kind::Array => self.arrays(writer, reader),
            Kind::Object => self.objects(writer, reader),
            Kind::Null | Kind::Boolean => Vec::new(),
        });
        for layer in &reader.layers {
            found.extend(self.combined(writer, layer, kind));
        }
        self.show(writer, reader, kind, found)
    }

    /// Looks for a value that breaks, where a rule had none at hand.
    fn show(&self, writer: &Layers<'_>, reader: &Layers<'_>, kind: Kind, mut found: Vec<Local>) -> Vec<Local> {
        if found.iter().any(|local| local.instance.is_none()) {
            let instance = witness(writer, reader, samples(writer, kind));
            found.iter_mut().filter(|local| local.instance.is_none()).for_each(|local| local.instance.clone_from(&instance));
        }
        found
    }

    /// `anyOf`, `oneOf`, `not`, `if` and what cannot be looked into.
    fn combined(&mut self, writer: &Layers<'_>, reader: &Layer<'_>, kind: Kind) -> Vec<Local> {
        let mut found = Vec::new();
        if !reader.is_split {
            found.extend(self.any_of(writer, reader, kind));
            found.extend(self.one_of(writer, reader, kind));
        }
        if let Some(not) = reader.map.get("not") {
            found.extend(self.not(writer, not, reader.root));
        }
        if reader.map.contains_key("if") {
            found.extend(self.conditional(writer, reader));
        }
        for keyword in ["unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"] {
            if let Some(value) = reader.map.get(keyword).filter(|value| *value != &Value::Bool(true))
                && !writer.layers.iter().any(|layer| layer.map.get(keyword) == Some(value))
            {
                found.push(Local::new(keyword_name(keyword), "the keyword is new or changed, and is not compared", None));
            }
        }
        found
    }

    fn any_of(&mut self, writer: &Layers<'_>, reader: &Layer<'_>, kind: Kind) -> Option<Local> {
        let branches = list(reader.map, "anyOf");
        if branches.is_empty() || has_same(writer, "anyOf", branches) {
            return None;
        }
        let fits = branches.iter().any(|branch| self.fits(writer, &Layers::of(branch, reader.root), kind));
        (!fits).then(|| Local::new("anyOf", format!("no branch takes every {} that is emitted", kind.as_str()), None))
    }

    fn one_of(&mut self, writer: &Layers<'_>, reader: &Layer<'_>, kind: Kind) -> Option<Local> {
        let branches = list(reader.map, "oneOf");
        if branches.is_empty() || has_same(writer, "oneOf", branches) {
            return None;
        }
        let branches: Vec<Layers<'_>> = branches.iter().map(|branch| Layers::of(branch, reader.root)).collect();
        let fits = (0..branches.len()).any(|at| {
            self.fits(writer, &branches[at], kind)
                && branches.iter().enumerate().all(|(other, branch)| other == at || is_disjoint(writer, branch, kind))
        });
        (!fits).then(|| Local::new("oneOf", format!("no single branch takes every {} that is emitted", kind.as_str()), None))
    }

    fn fits(&mut self, writer: &Layers<'_>, branch: &Layers<'_>, kind: Kind) -> bool {
        self.branches += 1;
        if branch.is_false || self.branches > MOST_BRANCHES {
            return false;
        }
        branch.is_empty() || self.contained_of_kind(writer, branch, kind).is_empty()
    }

    /// What the reader excludes must be excluded by the writer: its `not` is at least as wide.
    fn not(&mut self, writer: &Layers<'_>, not: &Value, root: &Value) -> Option<Local> {
        let excluded = Layers::of(not, root);
        let is_open = std::mem::replace(&mut self.is_open, true);
        let is_excluded = writer.layers.iter().any(|layer| {
            let own = layer.map.get("not");
            own.is_some_and(|own| {
                (own == not && !has_reference(std::slice::from_ref(not)))
                    || self.contained(&excluded, &Layers::of(own, layer.root)).is_empty()
            })
        });
        self.is_open = is_open;
        (!is_excluded).then(|| Local::new("not", "values that readers exclude may be emitted", None))
    }

    fn conditional(&mut self, writer: &Layers<'_>, reader: &Layer<'_>) -> Option<Local> {
        let get = |layer: &Layer<'_>, name: &str| layer.map.get(name).cloned();
        let has_reference = ["if", "then", "else"]
            .iter()
            .filter_map(|name| reader.map.get(*name))
            .any(|value| has_reference(std::slice::from_ref(value)));
        for layer in writer.layers.iter().filter(|layer| get(layer, "if") == get(reader, "if") && !has_reference) {
            let mut implies = |name: &str| {
                let Some(wanted) = reader.map.get(name) else { return true };
                let known = layer.map.get(name).map_or_else(|| writer.clone(), |own| writer.with(own, layer.root));
                get(layer, name).as_ref() == Some(wanted) || self.contained_plainly(&known, &Layers::of(wanted, reader.root))
            };
            if implies("then") && implies("else") {
                return None;
            }
        }
        Some(Local::new("if", "the condition is new or changed, and is not compared further", None))
    }

    fn contained_plainly(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> bool {
        self.contained(writer, reader).is_empty()
    }

    fn arrays(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        let of_length =
            |length: u64| usize::try_from(length.min(MOST)).ok().and_then(|length| array_of(writer, length, None, 0, 0));
        if let Some(wanted) = reader.most("minItems").filter(|wanted| writer.most("minItems").unwrap_or(0) < *wanted) {
            let least = writer.most("minItems").unwrap_or(0);
            let text = format!("got {least} items or more, readers expect {wanted}");
            found.push(Local::new("minItems", text, witness(writer, reader, of_length(least))));
        }
        let most = self.most_items(writer);
        if let Some(wanted) = reader.least("maxItems").filter(|wanted| most.is_none_or(|most| most > *wanted)) {
            let text = format!(
                "got {}, readers take {wanted} items",
                most.map_or("any number of items".to_owned(), |most| format!("up to {most} items"))
            );
            found.push(Local::new("maxItems", text, witness(writer, reader, of_length(wanted + 1))));
        }
        if reader.is_true("uniqueItems") && !writer.is_true("uniqueItems") && most.is_none_or(|most| most > 1) {
            let item = sample(&writer.item(0), 0);
            let twice = item.map(|item| Value::Array(vec![item.clone(), item]));
            found.push(Local::new("uniqueItems", "an item may be there twice", witness(writer, reader, twice)));
        }
        found.extend(self.items(writer, reader, most));
        found.extend(self.contains(writer, reader));
        found
    }

    /// Items at most, as far as the writer says so. A bare tuple is all that its producer emits.
    fn most_items(&self, writer: &Layers<'_>) -> Option<u64> {
        let tuple = writer.tuple_length() as u64;
        let is_bare = tuple > 0 && !writer.has_further_items() && !self.is_open;
        let is_closed = writer.item(usize::MAX).is_false;
        let bare = (is_bare || is_closed).then_some(tuple);
        [writer.least("maxItems"), bare].into_iter().flatten().min()
    }

    fn items(&mut self, writer: &Layers<'_>, reader: &Layers<'_>, most: Option<u64>) -> Vec<Local> {
        let tuple = writer.tuple_length().max(reader.tuple_length());
        let mut found = Vec::new();
        // The place behind both tuples stands for all that follow.
        for at in (0..=tuple).filter(|at| most.is_none_or(|most| (*at as u64) < most)) {
            let (of_writer, of_reader) = (writer.item(at), reader.item(at));
            let step = if at < tuple { format!("[{at}]") } else { "[]".to_owned() };
            for mut local in self.contained(&of_writer, &of_reader) {
                let whole = local.instance.take().and_then(|value| array(writer, Some((at, value)), 0, 0));
                local.instance = witness(writer, reader, whole);
                local.path = join(&step, &local.path);
                found.push(local);
            }
        }
        found
    }

    fn contains(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        for layer in &reader.layers {
            let Some(wanted) = layer.map.get("contains") else { continue };
            let wanted = Layers::of(wanted, layer.root);
            let counts = |map: &Map<String, Value>| (map.get("minContains").cloned(), map.get("maxContains").cloned());
            let is_open = std::mem::replace(&mut self.is_open, true);
            let is_implied = writer.layers.iter().any(|own| {
                let has_same_counts = counts(own.map) == counts(layer.map);
                let own_contains = own.map.get("contains").map(|value| Layers::of(value, own.root));
                has_same_counts && own_contains.is_some_and(|own| self.contained(&own, &wanted).is_empty())
            });
            self.is_open = is_open;
            if !is_implied {
                found.push(Local::new("contains", "a list need not contain what readers expect in it", None));
            }
        }
        found
    }

    fn objects(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        for name in reader.required().difference(&writer.required()) {
            let minimal = super::witness::object(writer, &[], 0, 0);
            let text = format!("\"{name}\" may be absent, and readers require it");
            found.push(Local::new("required", text, witness(writer, reader, minimal)));
        }
        found.extend(self.members(writer, reader));
        found.extend(self.further_members(writer, reader));
        found.extend(self.counts(writer, reader));
        found.extend(self.member_names(writer, reader));
        found.extend(self.dependencies(writer, reader));
        found
    }

    fn members(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        let declared = writer.declared();
        // Of an open writer anything may come, also under the names that only the reader knows.
        let of_reader = if self.is_open { reader.declared() } else { BTreeSet::new() };
        for name in declared.union(&of_reader) {
            let (of_writer, of_reader) = (writer.member(name), reader.member(name));
            if of_writer.is_false {
                continue;
            }
            if of_reader.is_false {
                let whole = super::witness::object(writer, &[(*name, None)], 0, 0);
                let text = format!("\"{name}\" may be there, and readers that validate refuse members that they do not know");
                found.push(Local { path: step(name), ..Local::new("additionalProperties", text, witness(writer, reader, whole)) });
                continue;
            }
            for mut local in self.contained(&of_writer, &of_reader) {
                let whole = local.instance.take().and_then(|value| super::witness::object(writer, &[(*name, Some(value))], 0, 0));
                local.instance = witness(writer, reader, whole);
                local.path = join(&step(name), &local.path);
                found.push(local);
            }
        }
        found
    }

    /// Members that are described by a pattern or as "any other".
    fn further_members(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        let (own, others) = (writer.patterns(), reader.patterns());
        for (pattern, of_writer) in &own {
            let mut readers: Vec<(&str, Layers<'_>)> = others.iter().map(|(other, layers)| (*other, layers.clone())).collect();
            // Another pattern may match the same names; if it says the same or more, nothing is lost.
            if !others.contains_key(pattern) {
                readers.push(("additionalProperties", reader.any_further_member()));
            }
            for (keyword, of_reader) in readers {
                let is_same_pattern = keyword == *pattern;
                let is_other_pattern = !is_same_pattern && others.contains_key(keyword);
                if is_other_pattern && own.contains_key(keyword) {
                    continue;
                }
                found.extend(self.of_some_name(writer, reader, of_writer, &of_reader, "patternProperties", pattern));
            }
        }
        let further = if self.is_open { Some(writer.any_further_member()) } else { writer.further_members() };
        if let Some(of_writer) = further.filter(|layers| !layers.is_false) {
            found.extend(self.of_some_name(writer, reader, &of_writer, &reader.any_further_member(), "additionalProperties", "*"));
            for name in reader.declared().difference(&writer.declared()) {
                for mut local in self.contained(&of_writer, &reader.member(name)) {
                    let whole =
                        local.instance.take().and_then(|value| super::witness::object(writer, &[(*name, Some(value))], 0, 0));
                    local.instance = witness(writer, reader, whole);
                    local.path = join(&step(name), &local.path);
                    found.push(local);
                }
            }
            for (pattern, of_reader) in others.iter().filter(|(pattern, _)| !own.contains_key(*pattern)) {
                found.extend(self.of_some_name(writer, reader, &of_writer, of_reader, "patternProperties", pattern));
            }
        }
        found
    }

    fn of_some_name(
        &mut self,
        writer: &Layers<'_>,
        reader: &Layers<'_>,
        of_writer: &Layers<'_>,
        of_reader: &Layers<'_>,
        rule: &'static str,
        pattern: &str,
    ) -> Vec<Local> {
        const NAMES: [&str; 8] = ["other", "a", "x1", "S_a", "I_a", "A", "1", "a_b"];
        let mut found = self.contained(of_writer, of_reader);
        for local in &mut found {
            let value = local.instance.take();
            let wholes = NAMES.iter().filter_map(|name| super::witness::object(writer, &[(*name, value.clone())], 0, 0));
            local.instance = value.as_ref().and_then(|_| witness(writer, reader, wholes.collect::<Vec<_>>()));
            local.path = join(&format!("{{{pattern}}}"), &local.path);
            local.text = format!("{}: {}", local.rule, local.text);
            local.rule = rule;
        }
        found
    }

    fn counts(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        let least = writer.most("minProperties").unwrap_or(0).max(writer.required().len() as u64);
        if let Some(wanted) = reader.most("minProperties").filter(|wanted| least < *wanted) {
            let text = format!("got {least} members or more, readers expect {wanted}");
            found.push(Local::new("minProperties", text, witness(writer, reader, super::witness::object(writer, &[], 0, 0))));
        }
        let is_closed = !self.is_open && writer.further_members().is_none() && writer.patterns().is_empty();
        let declared = is_closed.then(|| writer.declared().len() as u64).filter(|count| *count > 0);
        let most = [writer.least("maxProperties"), declared].into_iter().flatten().min();
        if let Some(wanted) = reader.least("maxProperties").filter(|wanted| most.is_none_or(|most| most > *wanted)) {
            let all: Vec<(&str, Option<Value>)> = writer.declared().into_iter().map(|name| (name, None)).collect();
            let text = format!("got more members, readers take {wanted}");
            found.push(Local::new("maxProperties", text, witness(writer, reader, super::witness::object(writer, &all, 0, 0))));
        }
        found
    }

    fn member_names(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        for layer in &reader.layers {
            let Some(names) = layer.map.get("propertyNames") else { continue };
            let names = Layers::of(names, layer.root);
            let Some(is_valid) = judge(&names) else { continue };
            for name in writer.declared().into_iter().filter(|name| !is_valid(&Value::from(*name))) {
                let whole = super::witness::object(writer, &[(name, None)], 0, 0);
                let text = format!("\"{name}\" may be there, and readers refuse a member of this name");
                found.push(Local::new("propertyNames", text, witness(writer, reader, whole)));
            }
            if self.is_open || writer.further_members().is_some() || !writer.patterns().is_empty() {
                let mut own = Layers::default();
                writer
                    .layers
                    .iter()
                    .filter_map(|own| Some((own.map.get("propertyNames")?, own.root)))
                    .for_each(|(value, root)| own.add(value, root));
                let is_implied = !own.layers.is_empty() && self.contained_of_kind(&own, &names, Kind::String).is_empty();
                if !is_implied {
                    found.push(Local::new("propertyNames", "members may have names that readers refuse", None));
                }
            }
        }
        found
    }

    /// `dependentRequired`, `dependentSchemas` and the older `dependencies`.
    fn dependencies(&mut self, writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
        let mut found = Vec::new();
        let is_open = self.is_open || writer.further_members().is_some() || !writer.patterns().is_empty();
        let declared = writer.declared();
        let may_come = |name: &str| is_open || declared.contains(name);
        for layer in &reader.layers {
            for keyword in ["dependentRequired", "dependentSchemas", "dependencies"] {
                for (name, wanted) in object(layer.map, keyword).into_iter().flatten().filter(|(name, _)| may_come(name)) {
                    match wanted {
                        Value::Array(needed) => {
                            let mut given = writer.required();
                            given.extend(writer.needed_with(name));
                            for need in needed.iter().filter_map(Value::as_str).filter(|need| !given.contains(need)) {
                                let whole = super::witness::object(writer, &[(name, None)], 0, 0);
                                let text = format!("\"{name}\" may be there without \"{need}\"");
                                found.push(Local::new(keyword_name(keyword), text, witness(writer, reader, whole)));
                            }
                        }
                        wanted => {
                            let is_same = writer
                                .layers
                                .iter()
                                .any(|own| object(own.map, keyword).and_then(|own| own.get(name)) == Some(wanted));
                            let is_implied = (is_same && !has_reference(std::slice::from_ref(wanted)))
                                || self.contained(writer, &Layers::of(wanted, layer.root)).is_empty();
                            if !is_implied {
                                let whole = super::witness::object(writer, &[(name, None)], 0, 0);
                                let text = format!("the condition for objects with \"{name}\" is new or changed");
                                found.push(Local::new(keyword_name(keyword), text, witness(writer, reader, whole)));
                            }
                        }
                    }
                }
            }
        }
        found
    }
}

/// The writer emits one of these values: each is tried.
fn each_value(writer: &Layers<'_>, reader: &Layers<'_>, values: Vec<Value>) -> Vec<Local> {
    let (Some(is_written), Some(is_read)) = (judge(writer), judge(reader)) else {
        return vec![Local::new("enum", "the values could not be checked one by one", None)];
    };
    let broken = values.into_iter().find(|value| is_written(value) && !is_read(value));
    let local = broken.map(|value| {
        let rule = if reader.layers.iter().any(|layer| layer.map.contains_key("enum") || layer.map.contains_key("const")) {
            "enum"
        } else {
            "type"
        };
        Local::new(rule, format!("got the value {value}, which readers refuse"), Some(value))
    });
    local.into_iter().collect()
}

fn kind_is_read(writer: &Layers<'_>, reader: &Layers<'_>, kind: Kind) -> Option<Local> {
    let kinds = reader.kinds();
    let is_whole = || writer.factors().iter().any(|factor| factor.to_integer().is_some());
    let is_read = match kind {
        Kind::Integer => kinds.contains(&Kind::Integer) || kinds.contains(&Kind::Number),
        Kind::Number => kinds.contains(&Kind::Number) || (kinds.contains(&Kind::Integer) && is_whole()),
        other => kinds.contains(&other),
    };
    if is_read {
        return None;
    }
    let mut candidates = samples(writer, kind);
    if kind == Kind::Number {
        let half = Decimal::parse("0.5");
        candidates.extend(writer.lower(false).map_or(half, |bound| between(&bound)).as_ref().and_then(json_number));
        candidates.extend(Decimal::parse("-0.5").as_ref().and_then(json_number));
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    let instance = witness(writer, reader, candidates);
    Some(Local::new(
        "type",
        format!("got {}, readers take {}", kind.as_str(), if names.is_empty() { "nothing".to_owned() } else { names.join(" or ") }),
        instance,
    ))
}

/// A number with a fraction just above a lower end.
fn between(bound: &Bound) -> Option<Decimal> {
    let whole: i128 = bound.value.to_string().split('.').next()?.parse().ok()?;
    Decimal::parse(&format!("{}.5", whole.max(0) + 1))
}

fn strings(writer: &Layers<'_>, reader: &Layers<'_>) -> Vec<Local> {
    let mut found = Vec::new();
    let of_length =
        |length: u64| (0..3).filter_map(|seed| text(writer, usize::try_from(length.min(MOST)).ok()?, seed)).collect::<Vec<_>>();
    let least = writer.most("minLength").unwrap_or(0);
    if let Some(wanted) = reader.most("minLength").filter(|wanted| least < *wanted) {
        let text = format!("got {least} characters or more, readers expect {wanted}");
        found.push(Local::new("minLength", text, witness(writer, reader, of_length(least))));
    }
    let most = writer.least("maxLength");
    if let Some(wanted) = reader.least("maxLength").filter(|wanted| most.is_none_or(|most| most > *wanted)) {
        let got = most.map_or("any number of characters".to_owned(), |most| format!("up to {most} characters"));
        found.push(Local::new(
            "maxLength",
            format!("got {got}, readers take {wanted}"),
            witness(writer, reader, of_length(wanted + 1)),
        ));
    }
    for keyword in ["pattern", "format", "contentEncoding", "contentMediaType"] {
        for wanted in reader.texts(keyword).difference(&writer.texts(keyword)) {
            let text = format!("readers expect \"{wanted}\", which the producer does not promise");
            found.push(Local::new(keyword_name(keyword), text, None));
        }
    }
    found
}

fn numbers(writer: &Layers<'_>, reader: &Layers<'_>, kind: Kind) -> Vec<Local> {
    let is_whole = kind == Kind::Integer;
    let mut found = Vec::new();
    let tighter = |own: Option<Bound>, wanted: &Bound, is_lower: bool| match own {
        None => true,
        Some(own) => {
            let order = if is_lower { own.value.cmp(&wanted.value) } else { wanted.value.cmp(&own.value) };
            order.is_lt() || (order.is_eq() && wanted.is_exclusive && !own.is_exclusive)
        }
    };
    let values = |bound: &Bound, own: Option<Bound>, step: &str| {
        let step = Decimal::parse(step)?;
        let whole = bound.value.to_string().parse::<f64>().ok()?;
        let mut made = vec![json_number(&bound.value)?];
        for distance in [1.0, 0.5, 2.0, 10.0] {
            let signed = if step.is_negative() { -distance } else { distance };
            made.extend(Decimal::parse(&(whole + signed).to_string()).as_ref().and_then(json_number));
        }
        made.extend(own.as_ref().and_then(|own| json_number(&own.value)));
        Some(made)
    };
    if let Some(wanted) = reader.lower(is_whole).filter(|wanted| tighter(writer.lower(is_whole), wanted, true)) {
        let mut candidates = values(&wanted, writer.lower(is_whole), "-1").unwrap_or_default();
        candidates.extend(samples(writer, kind));
        let text = format!("smaller numbers may come than readers take, from {} on", wanted.value);
        found.push(Local::new("minimum", text, witness(writer, reader, candidates)));
    }
    if let Some(wanted) = reader.upper(is_whole).filter(|wanted| tighter(writer.upper(is_whole), wanted, false)) {
        let mut candidates = values(&wanted, writer.upper(is_whole), "1").unwrap_or_default();
        candidates.extend(samples(writer, kind));
        let text = format!("larger numbers may come than readers take, up to {}", wanted.value);
        found.push(Local::new("maximum", text, witness(writer, reader, candidates)));
    }
    for wanted in reader.factors() {
        let is_one = wanted == Decimal::parse("1").expect("a number");
        let is_implied = writer.factors().iter().any(|own| own.is_multiple_of(&wanted) == Some(true)) || (is_whole && is_one);
        if !is_implied {
            let text = format!("readers expect multiples of {wanted}");
            found.push(Local::new("multipleOf", text, witness(writer, reader, samples(writer, kind))));
        }
    }
    found
}

/// Whether no value of this type that the writer emits fits the branch: by its type, or by a member that has other values there.
fn is_disjoint(writer: &Layers<'_>, branch: &Layers<'_>, kind: Kind) -> bool {
    let kinds = branch.kinds();
    let has_kind = kinds.contains(&kind)
        || (kind == Kind::Integer && kinds.contains(&Kind::Number))
        || (kind == Kind::Number && kinds.contains(&Kind::Integer));
    if branch.is_false || !has_kind {
        return true;
    }
    if kind != Kind::Object {
        return false;
    }
    writer.required().iter().any(|name| {
        let (own, other) = (writer.member(name), branch.member(name));
        match (own.values(), other.values()) {
            (Some(own), Some(other)) => !own.iter().any(|value| other.contains(value)),
            _ => false,
        }
    })
}

fn has_same(writer: &Layers<'_>, keyword: &str, branches: &[Value]) -> bool {
    !has_reference(branches) && writer.layers.iter().any(|layer| is_same_set(list(layer.map, keyword), branches))
}

fn is_same_set(one: &[Value], other: &[Value]) -> bool {
    one.len() == other.len() && one.iter().all(|value| other.contains(value)) && other.iter().all(|value| one.contains(value))
}

/// A reference may lead to different things in two schemas although it reads the same.
fn has_reference(values: &[Value]) -> bool {
    values.iter().any(|value| match value {
        Value::Object(members) => {
            members.contains_key("$ref") || members.values().any(|member| has_reference(std::slice::from_ref(member)))
        }
        Value::Array(items) => has_reference(items),
        _ => false,
    })
}

/// The keyword as a rule of its own.
fn keyword_name(keyword: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "anyOf",
        "oneOf",
        "pattern",
        "format",
        "contentEncoding",
        "contentMediaType",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$recursiveRef",
    ];
    KNOWN.iter().find(|known| **known == keyword).copied().unwrap_or("keyword")
}

fn step(name: &str) -> String {
    name.to_owned()
}

fn join(step: &str, rest: &str) -> String {
    match rest {
        "" => step.to_owned(),
        rest if rest.starts_with('[') => format!("{step}{rest}"),
        rest => format!("{step}.{rest}"),
    }
}
