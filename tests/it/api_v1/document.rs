//! The OpenAPI document: committed, true, and never poorer than it was; and the examples of the page about the API.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use outboxd::management::{ROUTES, document};
use serde_json::{Value, json};

use super::{Api, admin, request};

fn path(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let made = serde_json::to_string_pretty(&document()).expect("it is JSON") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path("docs/openapi.json"), &made).expect("the folder is there");
    }
    let committed = std::fs::read_to_string(path("docs/openapi.json")).unwrap_or_default();
    assert!(committed == made, "docs/openapi.json is stale; run UPDATE_DOCS=1 cargo test --test it api_v1::document");
}

/// Everything that a client can lean on, a line each.
fn promises(document: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (path, verbs) in document["paths"].as_object().expect("paths") {
        for (verb, operation) in verbs.as_object().expect("methods") {
            let name = format!("{} {path}", verb.to_uppercase());
            lines.insert(format!("{name} {}", operation["operationId"].as_str().expect("a name")));
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                lines.insert(format!(
                    "{name} {}.{}",
                    parameter["in"].as_str().expect("a place"),
                    parameter["name"].as_str().expect("a name")
                ));
            }
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            lines.extend(schema["properties"].as_object().into_iter().flatten().map(|(field, _)| format!("{name} body.{field}")));
            lines.extend(operation["responses"].as_object().into_iter().flatten().map(|(status, _)| format!("{name} -> {status}")));
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        for field in fields(schema) {
            lines.insert(format!("{name}.{field}"));
        }
    }
    lines
}

fn fields(schema: &Value) -> Vec<String> {
    let own = schema["properties"].as_object().into_iter().flatten().map(|(field, _)| field.clone());
    own.chain(schema["allOf"].as_array().into_iter().flatten().flat_map(fields)).collect()
}

/// Additions are noted with `UPDATE_DOCS=1`. A removal is a new version of the API, `/api/v2`.
#[test]
fn nothing_that_the_document_promised_is_taken_back() {
    let name = path("tests/it/api_v1/promised.txt");
    let made = promises(&document());
    let promised: BTreeSet<String> = std::fs::read_to_string(&name).unwrap_or_default().lines().map(str::to_owned).collect();
    let broken: Vec<&String> = promised.difference(&made).collect();
    assert!(broken.is_empty(), "clients lean on this: {broken:#?}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let lines: Vec<&str> = made.iter().map(String::as_str).collect();
        std::fs::write(&name, lines.join("\n") + "\n").expect("the folder is there");
    } else {
        let new: Vec<&String> = made.difference(&promised).collect();
        assert!(new.is_empty(), "note what is new with UPDATE_DOCS=1 cargo test --test it api_v1::document: {new:#?}");
    }
}

#[test]
fn the_document_is_whole() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(reference), "{reference}");
    }
    let mut names: Vec<&str> = ROUTES.iter().map(|route| route.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ROUTES.len(), "an operation has a name of its own");
    for route in ROUTES {
        let places = route.path.matches('{').count();
        assert_eq!((places, route.places.iter().all(|field| field.is_required)), (route.places.len(), true), "{}", route.path);
        assert!(!route.summary.ends_with('.') && !route.summary.is_empty(), "{}", route.summary);
    }
    for large in ["EventSummary", "DeadLetter", "Event"] {
        assert_eq!(schemas[large]["properties"]["seq"]["type"], "string", "{large}");
    }
}

#[tokio::test]
async fn the_document_is_served_with_the_answers_that_it_describes() {
    let api = Api::create().await;
    api.add_dead(2).await;
    assert_eq!(api.read("/openapi.json").await, document());
    // Each list as it comes is as its schema says.
    let document = document();
    for route in ROUTES.iter().filter(|route| route.verb.name() == "GET" && route.places.is_empty()) {
        let reply = api.read(route.path).await;
        let schema =
            json!({ "$ref": format!("#/components/schemas/{}", (route.shape.name)()), "components": document["components"] });
        let validator = jsonschema::validator_for(&schema).expect("the document is a schema");
        let mistakes: Vec<String> =
            validator.iter_errors(&reply).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(mistakes.is_empty(), "{}: {mistakes:#?}", route.path);
    }
}

/// The `curl` lines of a page: method, address below the API, body.
fn examples(page: &str) -> Vec<(String, String, Option<Value>)> {
    let joined = page.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.starts_with("curl "));
    lines
        .map(|line| {
            let body = line.split_once("-d '").map(|(_, rest)| rest.split_once('\'').expect("the body ends").0);
            let body = body.map(|body| serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {line}")));
            let verb = line.split_once("-X ").map_or("GET", |(_, rest)| rest.split(' ').next().expect("a method"));
            let (_, address) = line.split_once("/api/v1").expect("an address of the API");
            let address = address.split(['\'', '"', ' ']).next().expect("an address");
            (verb.to_owned(), address.to_owned(), body)
        })
        .collect()
}

#[tokio::test]
async fn the_examples_of_the_page_work_as_they_stand() {
    let api = Api::create().await;
    api.add_dead(3).await;
    api.database.execute("update outbox.deliveries set handled_at = '2026-03-01T05:00:00Z'").await;
    let page = std::fs::read_to_string(path("docs/api.md")).expect("the page is there");
    let examples = examples(&page);
    assert!(examples.len() >= 5, "{examples:?}");
    for (verb, address, body) in examples {
        let reply = api.send(Some(admin()), request(&verb, &address, body.as_ref())).await;
        assert!(matches!(reply.status, StatusCode::OK | StatusCode::CREATED), "{verb} {address}: {}", reply.text);
    }
}
