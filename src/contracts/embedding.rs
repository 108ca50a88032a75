//! A schema as a part of a document of others: its definitions become components of their own, and its references lead to where they stand there.
//!
//! Generators of types take every member of a component for a part of the event, also `$defs`; so none may stay inside.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Keywords whose value is a schema.
const ONE: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "items", "oneOf", "prefixItems"];
/// Keywords whose value has a schema under each name.
const NAMED: &[&str] = &["dependentSchemas", "patternProperties", "properties"];
/// Keywords whose value has definitions that references lead to.
const DEFINITIONS: &[&str] = &["$defs", "definitions"];

/// Where schemas stand in such documents.
const COMPONENTS: &str = "#/components/schemas/";

/// Puts a schema under this name, and each of its definitions under a name that begins with it.
pub(super) fn embed(schema: &Value, id: &str, schemas: &mut Map<String, Value>) {
    let mut root = schema.clone();
    if let Some(members) = root.as_object_mut() {
        members.remove("$schema");
        members.remove("$id");
    }
    // The place is taken before a definition could take it.
    schemas.insert(id.to_owned(), Value::Null);
    let mut moved = Moved { id, names: BTreeMap::new(), definitions: Vec::new() };
    moved.take_definitions(&mut root, "#", schemas);
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

struct Moved<'i> {
    /// The name of the whole schema.
    id: &'i str,
    /// The name of each definition by the pointer to where it was.
    names: BTreeMap<String, String>,
    definitions: Vec<(String, Value)>,
}

impl Moved<'_> {
    /// Takes the definitions out of a schema and of those inside it. `at`: the pointer to it, as a reference has it.
    fn take_definitions(&mut self, schema: &mut Value, at: &str, taken: &mut Map<String, Value>) {
        let Some(members) = schema.as_object_mut() else { return };
        for keyword in DEFINITIONS {
            let Some(Value::Object(definitions)) = members.remove(*keyword) else { continue };
            for (name, mut definition) in definitions {
                let pointer = format!("{at}/{keyword}/{}", escaped(&name));
                let component = free_name(&format!("{}.{name}", self.id), taken);
                taken.insert(component.clone(), Value::Null);
                self.take_definitions(&mut definition, &pointer, taken);
                self.names.insert(pointer, component.clone());
                self.definitions.push((component, definition));
            }
        }
        for_each_schema(members, &mut |inner, path| self.take_definitions(inner, &format!("{at}/{path}"), taken));
    }

    fn redirect(&self, schema: &mut Value) {
        let Some(members) = schema.as_object_mut() else { return };
        if let Some(Value::String(reference)) = members.get_mut("$ref")
            && (reference == "#" || reference.starts_with("#/"))
        {
            *reference = self.place_of(&percent_decode_str(reference).decode_utf8_lossy());
        }
        for_each_schema(members, &mut |inner, _| self.redirect(inner));
    }

    /// Where in the document the target of a reference within the schema stands.
    fn place_of(&self, reference: &str) -> String {
        let within = |pointer: &str| {
            let rest = reference.strip_prefix(pointer)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        // The longest one: a definition can have definitions.
        let moved = self.names.iter().filter_map(|(pointer, name)| Some((pointer.len(), name, within(pointer)?)));
        match moved.max_by_key(|(length, ..)| *length) {
            Some((_, name, rest)) => format!("{COMPONENTS}{name}{rest}"),
            None => format!("{COMPONENTS}{}{}", self.id, reference.trim_start_matches('#')),
        }
    }
}

/// The schemas directly inside one, each with its path; not what only looks like one, as the value of `const` or a property called `$ref`.
fn for_each_schema(members: &mut Map<String, Value>, act: &mut dyn FnMut(&mut Value, &str)) {
    for (keyword, value) in members {
        let keyword = keyword.as_str();
        match value {
            Value::Object(_) if ONE.contains(&keyword) => act(value, keyword),
            Value::Array(schemas) if LIST.contains(&keyword) => {
                schemas.iter_mut().enumerate().for_each(|(place, schema)| act(schema, &format!("{keyword}/{place}")));
            }
            Value::Object(named) if NAMED.contains(&keyword) => {
                named.iter_mut().for_each(|(name, schema)| act(schema, &format!("{keyword}/{}", escaped(name))));
            }
            _ => {}
        }
    }
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
                "list": { "anyOf": [{ "$ref": "#" }, { "$ref": "#/properties/one" }, true] },
            },
            "default": { "$defs": { "$ref": "#/$defs/a" } },
            "$defs": {
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
                    "list": { "anyOf": [{ "$ref": "#/components/schemas/t.v1" }, { "$ref": "#/components/schemas/t.v1/properties/one" }, true] },
                },
                "default": { "$defs": { "$ref": "#/$defs/a" } },
            },
            "t.v1.a": { "properties": { "self": { "$ref": "#/components/schemas/t.v1.a" } } },
            "t.v1.c_d": { "$ref": "#/components/schemas/t.v1.a_2" },
            "t.v1.a_2": { "type": "integer" },
            "t.v1.b": { "type": "null" },
        });
        assert_eq!(Value::Object(schemas), expected);
    }
}
