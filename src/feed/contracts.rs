//! `GET /v1/contracts`, the schemas behind it and the AsyncAPI document: the contracts of the events that a client may see.
//! Contracts of other events do not exist for it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Feed;
use super::access::Client;
use super::problem::Problem;
use super::routes::authenticate;
use crate::contracts::{Contract, State as Life, Version, asyncapi};
use crate::telemetry::FeedAnswer;

/// All contracts of the client.
pub(super) async fn list_contracts(State(feed): State<Arc<Feed>>, headers: HeaderMap) -> Response {
    answer(&feed, &headers, |client| {
        let contracts: Vec<Value> = contracts(client).map(|(contract, read)| describe(contract, read)).collect();
        Some(("application/json", json!({ "contracts": contracts }).to_string()))
    })
}

/// The contracts of the client as an AsyncAPI document.
pub(super) async fn read_asyncapi(State(feed): State<Arc<Feed>>, headers: HeaderMap) -> Response {
    answer(&feed, &headers, |client| {
        let document = asyncapi(contracts(client).map(|(contract, _)| contract), "Public events", "1.0.0");
        Some(("application/json", document.to_string()))
    })
}

/// The JSON Schema of one version, as it was declared.
pub(super) async fn read_schema(
    State(feed): State<Arc<Feed>>,
    Path((event_type, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    answer(&feed, &headers, |client| {
        let (contract, _) = contracts(client).find(|(contract, _)| contract.event_type == event_type)?;
        let version = contract.versions.get(&version.parse().ok()?).filter(|version| is_public(version))?;
        Some(("application/schema+json", version.schema.text().to_owned()))
    })
}

fn answer(feed: &Feed, headers: &HeaderMap, find: impl FnOnce(&Client) -> Option<(&'static str, String)>) -> Response {
    let client = match authenticate(feed, headers) {
        Ok(client) => client,
        Err(problem) => return problem.into_response(),
    };
    let Some((kind, text)) = find(&client) else {
        client.metrics.answered(FeedAnswer::Invalid);
        return Problem::unknown_contract().into_response();
    };
    client.metrics.answered(FeedAnswer::Contracts);
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))];
    (headers, format!("{}\n", text.trim_end())).into_response()
}

/// The contracts of what the client may see, each with the version that it reads.
fn contracts(client: &Client) -> impl Iterator<Item = (&Contract, u32)> {
    let pins = client.pins().into_iter();
    pins.flat_map(|pins| pins.versions().filter_map(|(event_type, version)| Some((pins.registry().contract(event_type)?, version))))
}

/// A draft may still become anything.
fn is_public(version: &Version) -> bool {
    version.state != Life::Draft
}

fn describe(contract: &Contract, read: u32) -> Value {
    let versions = contract.versions.values().filter(|version| is_public(version)).map(|version| {
        let mut told = version.facts();
        told.insert("schema".to_owned(), schema_address(&contract.event_type, version.number).into());
        told
    });
    json!({ "type": contract.event_type, "owner": contract.owner, "reads": read, "versions": versions.collect::<Vec<_>>() })
}

fn schema_address(event_type: &str, version: u32) -> String {
    let event_type: String = url::form_urlencoded::byte_serialize(event_type.as_bytes()).collect();
    // In a path a plus is itself.
    format!("/v1/contracts/{}/{version}/schema.json", event_type.replace('+', "%20"))
}

#[cfg(test)]
mod tests {
    use super::schema_address;

    #[test]
    fn the_address_of_a_schema_survives_every_type() {
        for (event_type, want) in [("order.placed", "order.placed"), ("a b/c?", "a%20b%2Fc%3F"), ("grün+", "gr%C3%BCn%2B")] {
            assert_eq!(schema_address(event_type, 1), format!("/v1/contracts/{want}/1/schema.json"));
        }
    }
}
