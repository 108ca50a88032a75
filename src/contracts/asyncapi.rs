//! AsyncAPI: the contracts as a document for the tools of others. One message and one channel for each version that is served.
//! Says nothing about handlers.

use serde_json::{Map, Value, json};

use super::embedding::{embed, free_name};
use super::registry::{Contract, Version};

/// An AsyncAPI 3.0 document of these contracts. `title` and `version` are those of its `info`.
pub fn asyncapi<'c>(contracts: impl Iterator<Item = &'c Contract>, title: &str, version: &str) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    for contract in contracts {
        for served in contract.served() {
            let id = identifier(&contract.event_type, served.number, &schemas);
            channels.insert(
                id.clone(),
                json!({
                    "address": contract.event_type,
                    "title": format!("{}, version {}", contract.event_type, served.number),
                    "messages": { &id: { "$ref": format!("#/components/messages/{id}") } },
                }),
            );
            operations.insert(
                format!("send_{id}"),
                json!({
                    "action": "send",
                    "channel": { "$ref": format!("#/channels/{id}") },
                    "messages": [{ "$ref": format!("#/channels/{id}/messages/{id}") }],
                }),
            );
            messages.insert(id.clone(), message(contract, served, &id));
            embed(served.schema.value(), &id, &mut schemas);
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": title, "version": version },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

/// The name of a version in such documents.
pub(super) fn identifier(event_type: &str, version: u32, taken: &Map<String, Value>) -> String {
    free_name(&format!("{event_type}.v{version}"), taken)
}

fn message(contract: &Contract, version: &Version, id: &str) -> Value {
    let mut message = json!({
        "name": id,
        "title": format!("{}, version {}", contract.event_type, version.number),
        "contentType": "application/json",
        "payload": { "$ref": format!("#/components/schemas/{id}") },
    });
    if let Some(summary) = summary(contract, version) {
        message["summary"] = summary.into();
    }
    let example = |example: &super::Example| {
        let payload: Value = serde_json::from_str(&example.text).ok()?;
        Some(json!({ "name": example.name.trim_end_matches(".json"), "payload": payload }))
    };
    let examples: Vec<Value> = version.examples.iter().filter_map(example).collect();
    if !examples.is_empty() {
        message["examples"] = examples.into();
    }
    message
}

fn summary(contract: &Contract, version: &Version) -> Option<String> {
    let owner = contract.owner.as_ref().map(|owner| format!("Owner: {owner}."));
    let ending = version.deprecation.as_ref().map(|deprecation| {
        let sunset = deprecation.sunset.map(|day| format!(", until {day}")).unwrap_or_default();
        let successor = deprecation.successor.map(|number| format!("; version {number} takes its place")).unwrap_or_default();
        format!("Deprecated since {}{sunset}{successor}.", deprecation.since)
    });
    let parts: Vec<String> = owner.into_iter().chain(ending).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::contracts::{Example, Registry, Schema, State};

    #[test]
    fn each_served_version_is_a_message_whose_references_lead_into_the_document() {
        let schema = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"a":{"$ref":"#/$defs/b"},"c":{"$ref":"#"}},"$defs":{"b":{"type":"string"}}}"##;
        let version = |number, state| Version {
            number,
            state,
            schema: Arc::new(Schema::parse(schema).expect("valid")),
            examples: vec![Example { name: "one.json".to_owned(), text: "{\"a\":\"x\"}".to_owned() }],
            deprecation: None,
            from_previous: None,
            from_next: None,
            allows: BTreeMap::new(),
            brownouts: vec![],
        };
        let versions = BTreeMap::from([(1, version(1, State::Draft)), (2, version(2, State::Active))]);
        let contract = Contract { event_type: "order placed".to_owned(), owner: Some("a@example.com".to_owned()), versions };
        let alike = BTreeMap::from([(2, version(2, State::Active))]);
        let alike = Contract { event_type: "order/placed".to_owned(), owner: None, versions: alike };
        let registry = Registry::new(vec![contract, alike]).unwrap_or_else(|faults| panic!("{faults:?}"));
        let document = asyncapi(registry.contracts(), "shop", "1.0.0");
        let names = |place: &str| {
            let found = document.pointer(place).and_then(Value::as_object).expect("an object");
            found.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names("/channels"), ["order_placed.v2", "order_placed.v2_2"], "a draft is not told, and no type hides another");
        assert_eq!(document["channels"]["order_placed.v2_2"]["address"], "order/placed");
        let schema = &document["components"]["schemas"]["order_placed.v2"];
        assert_eq!(schema["properties"]["a"]["$ref"], "#/components/schemas/order_placed.v2.b");
        assert_eq!(schema["properties"]["c"]["$ref"], "#/components/schemas/order_placed.v2");
        let message = &document["components"]["messages"]["order_placed.v2"];
        assert_eq!((&message["examples"][0]["payload"]["a"], &message["summary"]), (&json!("x"), &json!("Owner: a@example.com.")));
        let mut references = Vec::new();
        collect(&document, &mut references);
        for reference in references {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }

    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| collect(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
}
