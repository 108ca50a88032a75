//! The JSON Schema (draft 2020-12) of the configuration, for editors. It is generated from the declarations, so it always agrees
//! with them. It contains less than the check: rules between values are not in it.

use serde_json::{Map, Value, json};

use super::fields::{
    ADOPT, ADOPTION, CHANNEL_COMMON, CHANNEL_IDENTITY, CHANNELS, CLIENT, CLIENTS, COMMON, CONSOLE_TOKEN, HANDLERS, IDENTITY,
    PROJECTION, PROJECTIONS, SECTIONS, TOKENS, default_value,
};
use super::resolve::may_be_file;
use crate::settings::{Field, FieldType};

/// Any text may come from the environment, so every pattern allows for it.
const FROM_ENVIRONMENT: &str = r"\$\{";

/// Name, summary and settings of one kind.
type Kind<'k> = (&'k str, &'k str, &'static [Field]);

/// The schema of a whole file, with the kinds of handlers and channels.
pub fn schema(kinds: &[Kind<'_>], channels: &[Kind<'_>]) -> Value {
    let mut root = object(SECTIONS);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("outboxd configuration");
    root["properties"][HANDLERS] = json!({
        "type": "array",
        "description": "Handlers: each gets every event that it wants, independently of the others.",
        "items": entry(&[IDENTITY, COMMON], kinds),
    });
    root["properties"][PROJECTIONS] = json!({
        "type": "array",
        "description": "Projections: each entry is one version of a read table that is built from the log.",
        "items": object(PROJECTION),
    });
    root["properties"][ADOPT] = json!({
        "type": "array",
        "description": "Adopted tables: the rows that an application inserts become events. See `outboxd adopt`.",
        "items": object(ADOPTION),
    });
    root["properties"][CLIENTS] = json!({
        "type": "array",
        "description": "Clients: each may read a part of the feed.",
        "items": object(CLIENT),
    });
    root["properties"]["alerts"]["properties"][CHANNELS] = json!({
        "type": "array",
        "description": "Channels: each receives every alert of at least its severity.",
        "items": entry(&[CHANNEL_IDENTITY, CHANNEL_COMMON], channels),
    });
    root["properties"]["console"]["properties"][TOKENS] = json!({
        "type": "array",
        "description": "Tokens: each allows an operator or a program to use the console and the API.",
        "items": object(CONSOLE_TOKEN),
    });
    root
}

fn entry(common: &[&[Field]], kinds: &[Kind<'_>]) -> Value {
    let names: Vec<&str> = kinds.iter().map(|(name, ..)| *name).collect();
    let mut entry = object(&common.concat());
    entry["properties"]["kind"]["enum"] = json!(names);
    if let Some(rules) = entry.as_object_mut() {
        // The settings of the kind are added by `allOf`, which `additionalProperties` would not see.
        rules.remove("additionalProperties");
        rules.insert("unevaluatedProperties".to_owned(), json!(false));
        let conditions = rules.entry("allOf").or_insert_with(|| json!([]));
        conditions
            .as_array_mut()
            .expect("allOf is a list")
            .extend(kinds.iter().map(|(name, summary, fields)| of_kind(name, summary, fields)));
    }
    entry
}

fn of_kind(name: &str, summary: &str, fields: &[Field]) -> Value {
    let mut then = object(fields);
    if let Some(rules) = then.as_object_mut() {
        rules.remove("additionalProperties");
        rules.insert("description".to_owned(), json!(summary));
    }
    json!({ "if": { "properties": { "kind": { "const": name } }, "required": ["kind"] }, "then": then })
}

fn object(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name.to_owned(), property(field));
        if may_be_file(field.field_type) {
            let help = format!("File that holds {}: {}", field.name, field.help);
            properties.insert(format!("{}_file", field.name), json!({ "type": "string", "description": help }));
        }
    }
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    let required: Vec<Value> = fields.iter().filter(|field| field.default.is_none()).map(required).collect();
    if !required.is_empty() {
        object["allOf"] = Value::Array(required);
    }
    object
}

fn required(field: &Field) -> Value {
    if may_be_file(field.field_type) {
        json!({ "anyOf": [{ "required": [field.name] }, { "required": [format!("{}_file", field.name)] }] })
    } else {
        json!({ "required": [field.name] })
    }
}

fn property(field: &Field) -> Value {
    let mut property = shape(field.field_type);
    property["description"] = json!(field.help);
    if let Some(default) = default_value(field) {
        property["default"] = serde_json::to_value(default).expect("a TOML value without dates is a JSON value");
    }
    property
}

fn shape(field_type: FieldType) -> Value {
    let duration = format!("^\\s*[0-9.]+\\s*(us|ms|s|m|h|d)$|{FROM_ENVIRONMENT}");
    match field_type {
        FieldType::Text | FieldType::Secret => json!({ "type": "string" }),
        FieldType::Duration => json!({ "type": "string", "pattern": duration }),
        FieldType::Bytes => {
            json!({ "type": "string", "pattern": format!("^\\s*[0-9]+\\s*(B|kB|MB|GB|KiB|MiB|GiB)$|{FROM_ENVIRONMENT}") })
        }
        FieldType::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        FieldType::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        FieldType::Boolean => json!({ "type": "boolean" }),
        FieldType::Choice(choices) => json!({ "type": "string", "anyOf": [{ "enum": choices }, { "pattern": FROM_ENVIRONMENT }] }),
        FieldType::TextList | FieldType::SecretList => json!({ "type": "array", "items": { "type": "string" } }),
        FieldType::DurationList => json!({ "type": "array", "items": { "type": "string", "pattern": duration } }),
        FieldType::TextMap | FieldType::SecretMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        FieldType::ScalarMap => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
        }
        FieldType::Table(fields) => object(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &[Field] = &[Field::required("secrets", FieldType::SecretList, "Keys.")];

    fn assert_described(object: &Value, fields: &[Field]) {
        for field in fields {
            let property = &object["properties"][field.name];
            assert!(property["description"].as_str().is_some_and(|text| text == field.help), "{} has its help", field.name);
            if let FieldType::Table(inner) = field.field_type {
                assert_described(property, inner);
            }
        }
    }

    #[test]
    fn every_declared_setting_is_in_the_schema() {
        let schema = schema(&[("k", "does it", KIND)], &[("c", "tells it", KIND)]);
        assert_described(&schema, SECTIONS);
        let channel = &schema["properties"]["alerts"]["properties"]["channels"]["items"];
        assert_described(channel, CHANNEL_IDENTITY);
        assert_described(channel, CHANNEL_COMMON);
        assert_eq!(channel["properties"]["kind"]["enum"], json!(["c"]));
        let handler = &schema["properties"]["handlers"]["items"];
        assert_described(handler, IDENTITY);
        assert_described(handler, COMMON);
        assert_eq!(handler["properties"]["kind"]["enum"], json!(["k"]));
        assert_described(&schema["properties"]["adopt"]["items"], ADOPTION);
        assert_described(&schema["properties"]["console"]["properties"]["tokens"]["items"], CONSOLE_TOKEN);
        assert_described(&schema["properties"]["projections"]["items"], PROJECTION);
    }

    #[test]
    fn the_settings_of_a_kind_hold_only_for_that_kind() {
        let schema = schema(&[("k", "does it", KIND)], &[]);
        let handler = &schema["properties"]["handlers"]["items"];
        let rules = handler["allOf"].as_array().expect("a list of rules");
        let rule = rules.iter().find(|rule| rule["if"]["properties"]["kind"]["const"] == "k").expect("a rule for the kind");
        assert_described(&rule["then"], KIND);
        assert_eq!(rule["then"]["allOf"][0]["anyOf"], json!([{ "required": ["secrets"] }, { "required": ["secrets_file"] }]));
        assert_eq!(handler["unevaluatedProperties"], json!(false));
    }

    #[test]
    fn defaults_keep_their_type() {
        let relay = &schema(&[], &[])["properties"]["relay"]["properties"];
        assert_eq!(relay["durability_gate"]["default"], json!(true));
        assert_eq!(relay["lease"]["default"], json!("15s"));
    }
}
