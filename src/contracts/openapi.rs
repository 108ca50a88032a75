//! OpenAPI: the schemas of the contracts as components of a document, for tools that generate types or a receiver.

use serde_json::{Map, Value, json};

use super::asyncapi::identifier;
use super::embedding::embed;
use super::registry::Contract;

/// An OpenAPI 3.1 document that has nothing but `components.schemas`: one schema for each version that is served, and one for
/// each of its definitions.
pub fn openapi_schemas<'c>(contracts: impl Iterator<Item = &'c Contract>, title: &str, version: &str) -> Value {
    let mut schemas = Map::new();
    for contract in contracts {
        for served in contract.served() {
            let id = identifier(&contract.event_type, served.number, &schemas);
            embed(served.schema.value(), &id, &mut schemas);
            if let Some(members) = schemas.get_mut(&id).and_then(Value::as_object_mut) {
                members.entry("title").or_insert_with(|| format!("{}, version {}", contract.event_type, served.number).into());
                if served.deprecation.is_some() {
                    members.insert("deprecated".to_owned(), true.into());
                }
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "components": { "schemas": schemas },
    })
}
