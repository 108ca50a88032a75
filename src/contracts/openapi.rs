//! OpenAPI: the schemas of the contracts as components of a document, for tools that generate types or a receiver.

use serde_json::{Map, Value, json};

use super::asyncapi::{embedded, identifier};
use super::registry::Contract;

/// An OpenAPI 3.1 document that has nothing but `components.schemas`: one schema for each version that is served, which is a part of the
/// document, with its references, and not the address of another one.
pub fn openapi_schemas<'c>(contracts: impl Iterator<Item = &'c Contract>, title: &str, version: &str) -> Value {
    let mut schemas = Map::new();
    for contract in contracts {
        for served in contract.served() {
            let id = identifier(&contract.event_type, served.number, &schemas);
            let mut schema = embedded(served.schema.value(), &id);
            if let Some(members) = schema.as_object_mut() {
                members.entry("title").or_insert_with(|| format!("{}, version {}", contract.event_type, served.number).into());
                if served.deprecation.is_some() {
                    members.insert("deprecated".to_owned(), true.into());
                }
            }
            schemas.insert(id, schema);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "components": { "schemas": schemas },
    })
}
