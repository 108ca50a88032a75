//! Who may do what: every caller at every route, from the table.

use axum::http::StatusCode;
use outboxd::management::{ROUTES, Route, decide};
use outboxd::operations::{Caller, Role};
use serde_json::{Value, json};

use super::{Api, caller, request};

/// The address of a route, with something in its places.
pub(super) fn address(route: &Route) -> String {
    let value = |name: &str| match name {
        "event" | "id" => "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f",
        "group" => "0000000000000007",
        _ => "nobody",
    };
    route.places.iter().fold(route.path.to_owned(), |path, field| path.replace(&format!("{{{}}}", field.name), value(field.name)))
}

fn callers() -> Vec<(Option<Caller>, &'static str)> {
    vec![
        (None, "nobody"),
        (Some(caller(Role::Read, false)), "read"),
        (Some(caller(Role::Read, true)), "read with payloads"),
        (Some(caller(Role::Operate, false)), "operate"),
        (Some(caller(Role::Operate, true)), "operate with payloads"),
        (Some(caller(Role::Admin, false)), "admin"),
        (Some(caller(Role::Admin, true)), "admin with payloads"),
    ]
}

#[tokio::test]
async fn every_route_is_open_to_whom_the_table_says_and_to_nobody_else() {
    let api = Api::create().await;
    let mut wrong = Vec::new();
    for route in ROUTES {
        for (caller, name) in callers() {
            let body = (route.verb.name() != "GET").then(|| json!({}));
            let reply = api.send(caller.clone(), request(route.verb.name(), &address(route), body.as_ref())).await;
            let is_let_in = !matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            let may = caller.as_ref().is_some_and(|caller| decide(caller, route.access).is_ok());
            let refusal = if caller.is_none() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            if is_let_in != may || (!may && reply.status != refusal) {
                wrong.push(format!("{} {} for {name}: {}", route.verb.name(), route.path, reply.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(api.database.count("audit").await, 0, "nothing was done");
}

#[test]
fn reading_needs_the_least_and_what_cannot_be_taken_back_the_most() {
    for route in ROUTES {
        let is_act = route.verb.name() != "GET" && !route.path.ends_with("/preview");
        assert_eq!(route.access.role >= Role::Operate, is_act, "{}", route.path);
        let moves = ["/rewind", "/start-from", "/forget", "/reload"].iter().any(|end| route.path.ends_with(end));
        assert_eq!(route.access.role == Role::Admin, moves, "{}", route.path);
    }
    let rights = |caller: &Caller| ROUTES.iter().filter(|route| decide(caller, route.access).is_ok()).count();
    assert_eq!(rights(&caller(Role::Admin, true)), ROUTES.len());
    assert_eq!(rights(&caller(Role::Admin, false)), ROUTES.len() - 3, "a payload is a right of its own");
}

#[tokio::test]
async fn what_is_nowhere_tells_nobody_anything_and_callers_where_to_look() {
    let api = Api::create().await;
    for (verb, path) in [("GET", "/nowhere"), ("DELETE", "/status"), ("GET", ""), ("GET", "/events/../status")] {
        assert_eq!(api.send(None, request(verb, path, None)).await.status, StatusCode::UNAUTHORIZED, "{verb} {path}");
    }
    let nowhere = api.get("/nowhere").await;
    assert_eq!((nowhere.status, nowhere.kind()), (StatusCode::NOT_FOUND, "not-found"));
    let wrong = api.send(Some(super::admin()), request("DELETE", "/replays/018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f", None)).await;
    assert_eq!(
        (wrong.status, wrong.kind(), wrong.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "PUT, GET, HEAD")
    );
}

#[tokio::test]
async fn payload_and_headers_are_seen_by_whom_may_see_them_without_what_nobody_may() {
    let mut api = Api::create().await;
    let id = api.add("dead", "k").await;
    api.database
        .execute(
            "update outbox.events set payload = '{\"n\":12345678901234567890.10,\"card\":\"4111\"}', headers = '{\"secret\": 1}'",
        )
        .await;
    let state =
        outboxd::management::ApiState::new(api.database.pool().clone(), "outbox").with_redaction(vec![vec!["card".to_owned()]]);
    api.router = axum::Router::new().nest("/api/v1", outboxd::management::router(state));
    for path in [format!("/events/{id}"), format!("/dead-letters/{id}/billing")] {
        let veiled = api.send(Some(caller(Role::Admin, false)), request("GET", &path, None)).await;
        assert_eq!((&veiled.json["event"]["payload"], &veiled.json["event"]["headers"]), (&Value::Null, &Value::Null), "{path}");
        assert_eq!((&veiled.json["hidden"], veiled.json["payload_bytes"].as_u64()), (&json!(["headers", "payload"]), Some(43)));
        assert!(!veiled.text.contains("4111") && !veiled.text.contains("secret"), "{}", veiled.text);
        let seen = api.send(Some(caller(Role::Read, true)), request("GET", &path, None)).await;
        let payload = r#""payload":{"n":12345678901234567890.10,"card":"[redacted]"}"#;
        assert!(seen.text.contains(payload) && seen.text.contains("secret"), "{}", seen.text);
    }
    let payload = api.send(Some(caller(Role::Read, true)), request("GET", &format!("/events/{id}/payload"), None)).await;
    assert_eq!(payload.text.trim(), r#"{"n":12345678901234567890.10,"card":"[redacted]"}"#);
}
