//! The catalogue of the outbox, compared with the result of the migrations. Additional objects are not reported.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::store::facts::{Facts, Object};

/// The catalogue after all migrations; a test compares it with a fresh database, and can update it.
const CATALOGUE: &str = include_str!("catalogue.json");

/// Every object that there has to be.
pub type Expected = Vec<Object>;

/// Assigns the transaction its number before any row of a statement draws its own, where the columns stand the wrong way round.
const TX_FIRST: &str = "assign_tx_first";

/// The objects that the migrations make.
pub fn expected() -> Expected {
    serde_json::from_str(CATALOGUE).expect("the catalogue is written by a test")
}

type Key = (String, String, String);

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(objects) = &facts.catalogue else { return };
    let found: BTreeMap<Key, &Object> = objects.iter().map(|object| (key(object), object)).collect();
    let relations: BTreeSet<&str> = objects.iter().map(|object| object.relation.as_str()).collect();
    let expected = expected();
    let comparison = Comparison { schema: &facts.schema, expected: &expected, found: &found };
    let mut missing_tables = BTreeSet::new();
    for object in &expected {
        let is_of_table = matches!(object.kind.as_str(), "column" | "constraint");
        if is_of_table && !relations.contains(object.relation.as_str()) {
            if missing_tables.insert(object.relation.clone()) {
                findings.push(comparison.missing_table(&object.relation));
            }
            continue;
        }
        findings.extend(comparison.compare(object));
    }
    findings.extend(comparison.compare_order());
}

fn key(object: &Object) -> Key {
    (object.kind.clone(), object.relation.clone(), object.name.clone())
}

struct Comparison<'a> {
    schema: &'a str,
    expected: &'a [Object],
    found: &'a BTreeMap<Key, &'a Object>,
}

impl Comparison<'_> {
    fn compare(&self, want: &Object) -> Option<Finding> {
        let found = self.found.get(&key(want)).copied();
        match (want.kind.as_str(), found) {
            ("column", None) => Some(self.missing_column(want)),
            ("column", Some(found)) => self.compare_column(want, found),
            ("constraint", found) => self.compare_constraint(want, found),
            ("index", found) => self.compare_index(want, found),
            ("type", found) => self.compare_type(want, found),
            ("view" | "function", None) => Some(self.missing_text(want)),
            // The bell has a check of its own, because its text depends on the name of the schema.
            _ => None,
        }
    }

    fn table(&self, object: &Object) -> String {
        format!("{}.{}", self.schema, object.relation)
    }

    fn missing_table(&self, relation: &str) -> Finding {
        let of_table =
            |kind: &'static str| self.expected.iter().filter(move |object| object.kind == kind && object.relation == relation);
        let columns = of_table("column").map(column_definition);
        let constraints =
            of_table("constraint").map(|constraint| format!("constraint {} {}", constraint.name, constraint.definition));
        let body: Vec<String> = columns.chain(constraints).map(|line| format!("    {line}")).collect();
        let text = format!("create table {}.{relation} (\n{}\n);", self.schema, body.join(",\n"));
        Finding::critical("catalogue", format!("table {}.{relation} is missing", self.schema), CATALOGUE_WHY).sql(self.here(&text))
    }

    fn missing_column(&self, want: &Object) -> Finding {
        let text = format!("alter table {} add column {};", self.table(want), column_definition(want));
        Finding::critical("catalogue", format!("column {}.{} is missing", self.table(want), want.name), CATALOGUE_WHY).sql(text)
    }

    fn compare_column(&self, want: &Object, found: &Object) -> Option<Finding> {
        let (table, name) = (self.table(want), &want.name);
        let mut wrong = Vec::new();
        let mut changes = Vec::new();
        if found.definition != want.definition {
            wrong.push(format!("has type {} and not {}", found.definition, want.definition));
            changes.push(format!("alter table {table} alter column {name} type {0} using {name}::text::{0};", want.definition));
        }
        if found.is_not_null != want.is_not_null {
            let (is, change) = if want.is_not_null { ("may be null", "set") } else { ("may not be null", "drop") };
            wrong.push(is.to_owned());
            changes.push(format!("alter table {table} alter column {name} {change} not null;"));
        }
        if found.filling != want.filling {
            let have = found.filling.as_deref().unwrap_or("no default");
            wrong.push(format!("has {have} and not {}", want.filling.as_deref().unwrap_or("none")));
            changes.push(self.refill(want, found));
        }
        if wrong.is_empty() {
            return None;
        }
        let why = if want.relation == "events" { LOG_WHY } else { CATALOGUE_WHY };
        let what = format!("column {table}.{name} {}", wrong.join(", "));
        Some(Finding::critical("catalogue", what, why).sql(changes.join("\n")))
    }

    /// The statements that give a column the default, identity or generation that it should have.
    fn refill(&self, want: &Object, found: &Object) -> String {
        let (table, name) = (self.table(want), &want.name);
        let alter = format!("alter table {table} alter column {name}");
        let is = |object: &Object, what: &str| object.filling.as_deref().is_some_and(|filling| filling.starts_with(what));
        let has_identity = is(found, "generated always as identity") || is(found, "generated by default");
        match want.filling.as_deref() {
            Some("generated always as identity") if has_identity => format!("{alter} set generated always;"),
            Some(identity @ "generated always as identity") => {
                let add = format!("{alter} add {identity};");
                let drop = if found.filling.is_some() { format!("{alter} drop default;\n") } else { String::new() };
                let raise = format!(
                    "select setval(pg_get_serial_sequence('{table}', '{name}'), (select coalesce(max({name}), 0) + 1 from {table}), false);"
                );
                format!("{drop}{add}\n{raise}")
            }
            Some(generated) if generated.starts_with("generated") => {
                format!("alter table {table} drop column {name}, add column {};", column_definition(want))
            }
            Some(default) if has_identity => format!("{alter} drop identity;\n{alter} set {default};"),
            Some(default) => format!("{alter} set {default};"),
            None if has_identity => format!("{alter} drop identity;"),
            None => format!("{alter} drop default;"),
        }
    }

    fn compare_constraint(&self, want: &Object, found: Option<&Object>) -> Option<Finding> {
        let (table, name, definition) = (self.table(want), &want.name, &want.definition);
        let (what, text) = match found {
            None => (
                format!("constraint {name} of {table} is missing"),
                format!("alter table {table} add constraint {name} {definition};"),
            ),
            Some(found) if without_validity(&found.definition) != *definition => (
                format!("constraint {name} of {table} is another one: {}", found.definition),
                format!("alter table {table} drop constraint {name}, add constraint {name} {definition};"),
            ),
            Some(found) if !found.is_sound => {
                let text = format!("alter table {table} validate constraint {name};");
                (format!("constraint {name} of {table} was never checked against the rows that were there"), text)
            }
            Some(_) => return None,
        };
        let why = if want.relation == "events" { LOG_WHY } else { CATALOGUE_WHY };
        Some(Finding::critical("catalogue", what, why).sql(self.here(&text)))
    }

    fn compare_index(&self, want: &Object, found: Option<&Object>) -> Option<Finding> {
        let (schema, name) = (self.schema, &want.name);
        let create = self.here(&format!("{};", create_index(schema, &want.definition)));
        let (what, text) = match found {
            None => (format!("index {schema}.{name} is missing"), create),
            Some(found) if found.definition != want.definition => (
                format!("index {schema}.{name} is another one: {}", found.definition),
                format!("drop index concurrently {schema}.{name};\n{create}"),
            ),
            Some(found) if !found.is_sound => {
                (format!("index {schema}.{name} is not valid"), format!("reindex index concurrently {schema}.{name};"))
            }
            Some(_) => return None,
        };
        let why = "statements that run many times a second scan the whole table without it, and ever longer as it grows";
        Some(Finding::warning("catalogue", what, why).sql(text))
    }

    fn compare_type(&self, want: &Object, found: Option<&Object>) -> Option<Finding> {
        let (schema, name) = (self.schema, &want.name);
        let Some(found) = found else {
            let text = format!("create type {schema}.{name} as enum ({});", want.definition);
            return Some(Finding::critical("catalogue", format!("type {schema}.{name} is missing"), CATALOGUE_WHY).sql(text));
        };
        let have: BTreeSet<&str> = found.definition.split(", ").collect();
        let missing: Vec<&str> = want.definition.split(", ").filter(|label| !have.contains(label)).collect();
        if missing.is_empty() {
            return None;
        }
        let what = format!("type {schema}.{name} lacks {}", missing.join(", "));
        let add: Vec<String> = missing.iter().map(|label| format!("alter type {schema}.{name} add value {label};")).collect();
        Some(Finding::critical("catalogue", what, CATALOGUE_WHY).sql(add.join("\n")))
    }

    fn missing_text(&self, want: &Object) -> Finding {
        let Object { kind, name, definition, .. } = want;
        let text = match kind.as_str() {
            "view" => format!("create view {}.{name} as\n{};", self.schema, definition.trim_end().trim_end_matches(';')),
            _ => format!("{};", definition.trim_end()),
        };
        Finding::critical("catalogue", format!("{kind} {}.{name} is missing", self.schema), CATALOGUE_WHY).sql(self.here(&text))
    }

    /// "Every row with tx >= X has a seq drawn after X was current" holds only if the default of `tx` comes first.
    fn compare_order(&self) -> Option<Finding> {
        let place = |name: &str| {
            let key = ("column".to_owned(), "events".to_owned(), name.to_owned());
            self.found.get(&key).map(|object| object.place)
        };
        let (tx, seq) = (place("tx")?, place("seq")?);
        let trigger = ("trigger".to_owned(), "events".to_owned(), TX_FIRST.to_owned());
        if tx < seq || self.found.get(&trigger).is_some_and(|trigger| trigger.is_sound) {
            return None;
        }
        let why = "defaults are evaluated in the order of the columns, and the transaction must have its number before the event draws \
                   its own: otherwise a page of a large window may miss events";
        let schema = self.schema;
        let text = format!(
            "create function {schema}.{TX_FIRST}() returns trigger language plpgsql as\n    \
             $$ begin perform pg_current_xact_id(); return null; end $$;\n\
             create trigger {TX_FIRST} before insert on {schema}.events for each statement execute function {schema}.{TX_FIRST}();"
        );
        Some(Finding::critical("catalogue", format!("column tx of {schema}.events stands behind seq"), why).sql(text))
    }

    /// With the schema in front, because definitions name what is in it without it.
    fn here(&self, text: &str) -> String {
        format!("set search_path = {}, pg_catalog, public;\n{text}\nreset search_path;", self.schema)
    }
}

const CATALOGUE_WHY: &str = "the schema is not what this version made: statements of the relay fail, or do something else";
const LOG_WHY: &str = "a condition for reading the log no longer holds: events may be lost, repeated, or refused";

fn column_definition(column: &Object) -> String {
    let Object { name, definition, is_not_null, filling, .. } = column;
    let filling = filling.as_ref().map(|filling| format!(" {filling}")).unwrap_or_default();
    format!("{name} {definition}{}{filling}", if *is_not_null { " not null" } else { "" })
}

fn without_validity(definition: &str) -> &str {
    definition.strip_suffix(" NOT VALID").unwrap_or(definition)
}

fn create_index(schema: &str, definition: &str) -> String {
    definition.replacen("INDEX ", "INDEX CONCURRENTLY ", 1).replacen(" ON ", &format!(" ON {schema}."), 1)
}
