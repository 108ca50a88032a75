//! A schema as a part of a document of others: its definitions become components of their own, and its references lead to where they stand there.
//!
//! Generators of types take every member of a component for a part of the event, also `$defs`; so none may stay inside. Names that are
//! the schema's own, as those of `$anchor`, have no meaning in the document; references by them become references by place.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::schema::{DATA, NAMED, percent_decoded};

/// Keywords whose value has definitions that references lead to.
const DEFINITIONS: &[&str] = &["$defs", "definitions"];
/// Keywords that give a schema a name or an address of its own.
const OWN_NAMES: &[&str] = &["$anchor", "$dynamicAnchor", "$recursiveAnchor", "$id"];
/// Keywords that refer to a schema. Where nothing overrides anything, a dynamic reference is a plain one.
const REFERENCES: &[&str] = &["$dynamicRef", "$recursiveRef"];

/// Where schemas stand in such documents.
const COMPONENTS: &str = "#/components/schemas/";

/// Puts a schema under this name, and each of its definitions under a name that begins with it.
pub(super) fn embed(schema: &Value, id: &str, schemas: &mut Map<String, Value>) {
    let mut root = schema.clone();
    if let Some(members) = root.as_object_mut() {
        members.remove("$schema");
    }
    // The place is taken before a definition could take it.
    schemas.insert(id.to_owned(), Value::Null);
    let mut moved = Moved { id, components: BTreeMap::new(), anchors: BTreeMap::new(), definitions: Vec::new() };
    moved.take_apart(&mut root, "#", schemas);
    moved.redirect(&mut root);
    schemas.insert(id.to_owned(), root);
    for (name, mut definition) in std::mem::take(&mut moved.definitions) {
        moved.redirect(&mut definition);
        schemas.insert(name, definition);
    }
}

/// A name without the characters that such documents forbid in keys, and none of those that are taken: two names can differ in such characters only.
pub(super) fn free_name(wanted: &str, taken: &Map<String, Value>) -> String {
    let name: String =
        wanted.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect();
    let others = (2..).map(|number| format!("{name}_{number}"));
    std::iter::once(name.clone()).chain(others).find(|name| !taken.contains_key(name)).expect("numbers do not end")
}

/// What was taken out of a schema.
struct Moved<'i> {
    /// The name of the whole schema.
    id: &'i str,
    /// The name of each definition by the pointer to where it was, `#/$defs/line`.
    components: BTreeMap<String, String>,
    /// The pointer to each schema that has a name of its own, by the reference to it, `#line`.
    anchors: BTreeMap<String, String>,
    definitions: Vec<(String, Value)>,
}

impl Moved<'_> {
    /// Takes the definitions and own names out of a schema and of those inside it. `at`: the pointer to it.
    fn take_apart(&mut self, schema: &mut Value, at: &str, taken: &mut Map<String, Value>) {
        let Some(members) = schema.as_object_mut() else { return };
        for keyword in OWN_NAMES {
            let Some(Value::String(name)) = members.remove(*keyword) else { continue };
            let reference = if *keyword == "$id" { name } else { format!("#{name}") };
            self.anchors.entry(reference).or_insert_with(|| at.to_owned());
        }
        for keyword in DEFINITIONS {
            let Some(Value::Object(definitions)) = members.remove(*keyword) else { continue };
            for (name, mut definition) in definitions {
                let pointer = format!("{at}/{keyword}/{}", escaped(&name));
                let component = free_name(&format!("{}.{name}", self.id), taken);
                taken.insert(component.clone(), Value::Null);
                self.take_apart(&mut definition, &pointer, taken);
                self.components.insert(pointer, component.clone());
                self.definitions.push((component, definition));
            }
        }
        for_each_schema(members, &mut |inner, path| self.take_apart(inner, &format!("{at}/{path}"), taken));
    }

    fn redirect(&self, schema: &mut Value) {
        let Some(members) = schema.as_object_mut() else { return };
        if let Some(Value::String(reference)) = members.get_mut("$ref") {
            *reference = self.place_of(reference);
        }
        for keyword in REFERENCES {
            if let Some(Value::String(reference)) = members.remove(*keyword) {
                members.entry("$ref").or_insert_with(|| self.place_of(&reference).into());
            }
        }
        for_each_schema(members, &mut |inner, _| self.redirect(inner));
    }

    /// Where in the document the target of a reference within the schema stands.
    fn place_of(&self, reference: &str) -> String {
        let decoded = percent_decoded(reference);
        let pointer = self.anchors.get(reference).unwrap_or(&decoded);
        let within = |place: &str| {
            let rest = pointer.strip_prefix(place)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)
        };
        // The longest one: a definition can have definitions.
        let moved = self.components.iter().filter_map(|(place, name)| Some((place.len(), name, within(place)?)));
        match moved.max_by_key(|(length, ..)| *length) {
            Some((_, name, rest)) => format!("{COMPONENTS}{name}{}", encoded(rest)),
            None => format!("{COMPONENTS}{}{}", self.id, encoded(pointer.trim_start_matches('#'))),
        }
    }
}

/// The schemas directly inside one, each with its path. What only looks like one is not among them: the value of `const`, a property called `$ref`.
fn for_each_schema(members: &mut Map<String, Value>, act: &mut dyn FnMut(&mut Value, &str)) {
    for (keyword, value) in members.iter_mut().filter(|(keyword, _)| !DATA.contains(&keyword.as_str())) {
        match value {
            Value::Object(named) if NAMED.contains(&keyword.as_str()) => {
                named.iter_mut().for_each(|(name, schema)| act(schema, &format!("{keyword}/{}", escaped(name))));
            }
            Value::Array(schemas) => {
                schemas.iter_mut().enumerate().for_each(|(place, schema)| act(schema, &format!("{keyword}/{place}")));
            }
            one => act(one, &escaped(keyword)),
        }
    }
}

/// A pointer as a part of a reference, which is a URI.
fn encoded(pointer: &str) -> impl std::fmt::Display {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'~').remove(b'-').remove(b'_').remove(b'.').remove(b'$');
    utf8_percent_encode(pointer, PLAIN)
}

/// A name as a part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_become_components_and_nothing_else_is_touched() {
        let schema = json!({
            "$id": "x", "type": "object",
            "properties": {
                "$defs": { "type": "string" },
                "$ref": { "const": { "$ref": "#/$defs/a" } },
                "one": { "$ref": "#/$defs/a" },
                "inner": { "$defs": { "b": { "type": "null" } }, "$ref": "#/properties/inner/$defs/b" },
                "deep": { "$ref": "#/$defs/a/$defs/c~1d" },
                "coded": { "$ref": "#/%24defs/a/properties/self" },
                "list": { "anyOf": [{ "$ref": "#" }, { "$ref": "#/properties/one" }, { "$dynamicRef": "#" }, true] },
                "here": { "$anchor": "place", "type": "boolean" },
                "there": { "$ref": "#place" },
                "a b": { "type": "null" },
                "spaced": { "$ref": "#/properties/a%20b" },
                "default": { "$ref": "#named" },
            },
            "x-shared": { "part": { "$ref": "#/definitions/a" } },
            "default": { "$defs": { "$ref": "#/$defs/a" } },
            "$defs": {
                "named": { "$anchor": "named", "maximum": 9 },
                "a": { "properties": { "self": { "$ref": "#/$defs/a" } }, "$defs": { "c/d": { "$ref": "#/definitions/a" } } },
            },
            "definitions": { "a": { "type": "integer" } },
        });
        let mut schemas = Map::new();
        embed(&schema, "t.v1", &mut schemas);
        let expected = json!({
            "t.v1": {
                "type": "object",
                "properties": {
                    "$defs": { "type": "string" },
                    "$ref": { "const": { "$ref": "#/$defs/a" } },
                    "one": { "$ref": "#/components/schemas/t.v1.a" },
                    "inner": { "$ref": "#/components/schemas/t.v1.b" },
                    "deep": { "$ref": "#/components/schemas/t.v1.c_d" },
                    "coded": { "$ref": "#/components/schemas/t.v1.a/properties/self" },
                    "list": { "anyOf": [{ "$ref": "#/components/schemas/t.v1" }, { "$ref": "#/components/schemas/t.v1/properties/one" }, { "$ref": "#/components/schemas/t.v1" }, true] },
                    "here": { "type": "boolean" },
                    "there": { "$ref": "#/components/schemas/t.v1/properties/here" },
                    "a b": { "type": "null" },
                    "spaced": { "$ref": "#/components/schemas/t.v1/properties/a%20b" },
                    "default": { "$ref": "#/components/schemas/t.v1.named" },
                },
                "x-shared": { "part": { "$ref": "#/components/schemas/t.v1.a_2" } },
                "default": { "$defs": { "$ref": "#/$defs/a" } },
            },
            "t.v1.a": { "properties": { "self": { "$ref": "#/components/schemas/t.v1.a" } } },
            "t.v1.c_d": { "$ref": "#/components/schemas/t.v1.a_2" },
            "t.v1.a_2": { "type": "integer" },
            "t.v1.b": { "type": "null" },
            "t.v1.named": { "maximum": 9 },
        });
        assert_eq!(Value::Object(schemas), expected);
    }
}
