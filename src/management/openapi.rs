//! The OpenAPI document, made of the table of routes and of the types that are sent. Committed as `docs/openapi.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::answer::Answer;
use super::field::{Field, Mistake};
use super::problem::{KINDS, Problem};
use super::serve::Call;
use super::state::ApiState;
use super::table::{ROUTES, Route, Verb};

pub async fn serve(_: ApiState, mut call: Call) -> Result<Answer, Problem> {
    call.check()?;
    Ok(Answer::raw(document().to_string()))
}

/// The document.
pub fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let mut collected = vec![(Mistake::name().into_owned(), Mistake::schema())];
    for route in ROUTES {
        paths.entry(route.path).or_default().insert(route.verb.name().to_lowercase(), operation(route));
        (route.shape.collect)(&mut collected);
    }
    for (name, schema) in collected {
        schemas.insert(name, json!(schema));
    }
    schemas.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "outboxd management API",
            "description": "The operations of operators on an outbox: look, replay, discard, pause, move. Whole numbers that may be larger than 2^53 are texts. \
                            A preview returns `as_of` and `matched`; the act repeats them as `as_of` and `expected`, and changes only what the preview showed.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": problems(),
            "schemas": schemas,
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route.places.iter().map(|field| parameter(field, "path")).collect();
    parameters.extend(route.query.iter().map(|field| parameter(field, "query")));
    if route.verb == Verb::Get {
        parameters.push(json!({
            "name": "If-None-Match", "in": "header", "required": false, "schema": { "type": "string" },
            "description": "The `ETag` of an earlier answer; 304 if nothing has changed",
        }));
    }
    let right = if route.access.needs_payloads { " and the right to see payloads" } else { "" };
    let command =
        if route.command.is_empty() { String::new() } else { format!(" On the command line: `outboxd {}`.", route.command) };
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.summary,
        "description": format!("{}. Needs the role {}{right}.{command}", route.summary, route.access.role.name()),
        "tags": [route.path.trim_start_matches('/').split('/').next().unwrap_or_default()],
        "x-role": route.access.role.name(),
        "x-needs-payloads": route.access.needs_payloads,
        "parameters": parameters,
        "responses": responses(route),
    });
    if route.verb != Verb::Get && !route.body.is_empty() {
        let is_required = route.body.iter().any(|field| field.is_required);
        operation["requestBody"] =
            json!({ "required": is_required, "content": { "application/json": { "schema": body_schema(route.body) } } });
    }
    operation
}

fn parameter(field: &Field, place: &str) -> Value {
    json!({ "name": field.name, "in": place, "required": field.is_required, "description": field.help, "schema": field.schema() })
}

fn body_schema(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|field| (field.name.to_owned(), field.schema())).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn responses(route: &Route) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{}", (route.shape.name)()) });
    let content = json!({ "application/json": { "schema": schema } });
    let mut responses = Map::new();
    let mut usual = json!({ "description": "As wished", "content": content });
    if route.verb == Verb::Get {
        usual["headers"] = json!({ "ETag": { "schema": { "type": "string" } } });
        responses.insert("304".to_owned(), json!({ "description": "Nothing has changed" }));
    }
    if route.verb == Verb::Put {
        responses.insert("200".to_owned(), json!({ "description": "It is there already, as wished", "content": content }));
    }
    responses.insert(route.status.to_string(), usual);
    for (_, status, _) in documented() {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/Problem{status}") }));
    }
    Value::Object(responses)
}

/// The kinds of problem that a route of the document can answer with: its method is never the wrong one.
fn documented() -> impl Iterator<Item = &'static (&'static str, u16, &'static str)> {
    KINDS.iter().filter(|(kind, ..)| *kind != "wrong-method")
}

/// The responses that every route may give, by their status.
fn problems() -> Value {
    let mut kinds: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for (kind, status, _) in documented() {
        kinds.entry(*status).or_default().push(kind);
    }
    let response = |(status, kinds): (u16, Vec<&str>)| {
        let content = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
        let description = format!("urn:outboxd:{}", kinds.join(", urn:outboxd:"));
        (format!("Problem{status}"), json!({ "description": description, "content": content }))
    };
    Value::Object(kinds.into_iter().map(response).collect())
}

fn problem_schema() -> Value {
    let kinds: Vec<String> = KINDS.iter().map(|(kind, ..)| format!("urn:outboxd:{kind}")).collect();
    json!({
        "type": "object",
        "description": "Why a request was not answered as wished (RFC 9457)",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "enum": kinds },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "command": { "type": "string", "description": "The command line that helps" },
            "errors": { "type": "array", "description": "All mistakes of the request", "items": { "$ref": "#/components/schemas/Mistake" } },
            "preview": { "$ref": "#/components/schemas/PreviewDocument" },
        },
    })
}
