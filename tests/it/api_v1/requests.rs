//! What a request may look like: all mistakes at once, bodies, tags, and hostile text in every field.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use outboxd::management::{Field, Kind, ROUTES};
use serde_json::{Map, Value, json};

use super::access::address;
use super::{Api, admin, request};

#[tokio::test]
async fn all_mistakes_of_a_request_are_told_at_once() {
    let api = Api::create().await;
    let reply = api
        .post("/dead-letters/discard", &json!({ "handlre": "billing", "ids": ["x"], "expected": 0, "reason": "no reason" }))
        .await;
    assert_eq!((reply.status, reply.kind()), (StatusCode::BAD_REQUEST, "invalid-request"));
    let mistakes: Vec<(String, String)> = reply.json["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|mistake| {
            (
                format!("{}.{}", mistake["in"].as_str().expect("a place"), mistake["field"].as_str().expect("a name")),
                mistake["expected"].to_string(),
            )
        })
        .collect();
    let names: Vec<&str> = mistakes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["body.handlre", "body.reason", "body.ids", "body.as_of", "body.expected", "body.because", "body.all"]);
    assert!(mistakes[0].1.contains("did you mean handler?"), "{mistakes:?}");

    let reply = api.get("/events?limit=0&limit=5&key=nokey&colour=red&cursor=x").await;
    let count = reply.json["errors"].as_array().map(Vec::len);
    assert_eq!((reply.kind(), count), ("invalid-request", Some(4)), "{}", reply.text);
    let unknown = api.post("/handlers/biling/pause", &json!({ "because": "x" })).await;
    assert_eq!(
        (unknown.status, unknown.kind(), unknown.json["command"].as_str()),
        (StatusCode::NOT_FOUND, "not-found", Some("outboxd handlers list"))
    );
    assert!(unknown.json["detail"].as_str().expect("a text").contains("did you mean \"billing\"?"), "{}", unknown.text);
}

#[tokio::test]
async fn a_body_is_json_and_small() {
    let api = Api::create().await;
    let send = async |content_type: Option<&str>, body: String| {
        let mut request = Request::builder().method("POST").uri("/api/v1/handlers/billing/pause");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        api.send(Some(admin()), request.body(Body::from(body)).expect("well formed")).await
    };
    let body = r#"{"because":"x"}"#.to_owned();
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/json-seq")] {
        assert_eq!(send(content_type, body.clone()).await.kind(), "wrong-content-type", "{content_type:?}");
    }
    let large = format!("{{\"because\":\"{}\"}}", "x".repeat(64 * 1024));
    assert_eq!(send(Some("application/json"), large).await.kind(), "too-large");
    for broken in ["{", "[]", "7", "{\"because\":\"x\"} {}", "{\"because\": 1e", &("[".repeat(10_000)), "\u{feff}{}"] {
        assert_eq!(send(Some("application/json"), broken.to_owned()).await.kind(), "invalid-request", "{broken:.20}");
    }
    assert_eq!(send(Some("application/json"), String::new()).await.kind(), "invalid-request", "because is required");
    assert_eq!(api.database.count("audit").await, 0);
    assert_eq!(send(Some("application/JSON; charset=utf-8"), body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let api = Api::create().await;
    api.add_dead(2).await;
    let first = api.get("/dead-letters").await;
    let tag = first.header("etag").to_owned();
    assert!(tag.len() == 34 && first.header("cache-control") == "private, no-cache", "{tag}");
    let again = async |tag: &str| {
        let request = Request::builder().uri("/api/v1/dead-letters").header("if-none-match", tag).body(Body::empty());
        api.send(Some(admin()), request.expect("well formed")).await
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let reply = again(&known).await;
        assert_eq!(
            (reply.status, reply.text.as_str(), reply.header("etag")),
            (StatusCode::NOT_MODIFIED, "", tag.as_str()),
            "{known}"
        );
    }
    api.add_dead(1).await;
    assert_eq!(again(&tag).await.status, StatusCode::OK);
    assert_eq!(api.post("/dead-letters/preview", &json!({ "all": true })).await.header("etag"), "", "only what is read has a tag");
}

/// Something that is right for a field.
fn good(field: &Field) -> Value {
    match field.kind {
        Kind::Uuid => json!("018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f"),
        Kind::Uuids => json!(["018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f"]),
        Kind::Count(..) | Kind::Expected => json!(1),
        Kind::At => json!("2026-01-31T08:00:00Z"),
        Kind::Moment | Kind::Duration | Kind::Start | Kind::Target => json!("2h"),
        Kind::Reason => json!("timeout"),
        Kind::Group => json!("0000000000000007"),
        Kind::Rate => json!("1/h"),
        Kind::Flag => json!(false),
        Kind::Aggregate => json!("order/42"),
        Kind::Object => json!({}),
        Kind::Via => json!("api"),
        Kind::Text(_) if field.name == "handler" => json!("billing"),
        Kind::Text(_) => json!("x"),
    }
}

fn hostile() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    vec![
        json!("<img src=x onerror=alert(1)>"),
        json!("'; drop table outbox.events; --"),
        json!("$(reboot) `reboot` ${IFS} %s %n \\"),
        json!("\u{202e}gpj.exe\u{200b}\u{7}\u{1b}[2J\r\nset-cookie: a=b"),
        json!("a\u{0}b"),
        json!("%' or 1=1 --_\\"),
        json!("../../../etc/passwd"),
        json!("ä".repeat(3_000)),
        json!("x".repeat(20_000)),
        json!(""),
        json!("   "),
        json!(-1),
        json!(u64::MAX),
        json!(1.5e300),
        json!(true),
        json!({ "seq": { "$ne": null } }),
        deep,
        json!("9999-99-99T99:99:99Z"),
        json!("+999999999-12-31T00:00:00Z"),
        json!("infinity"),
    ]
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Every field of every route with every hostile value, everything else being right: an answer that is JSON, and never a failure of ours.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_in_any_field_is_answered_and_breaks_nothing() {
    let api = Api::create().await;
    api.add_dead(3).await;
    let mut broken = Vec::new();
    let mut asked = 0;
    for route in ROUTES.iter().filter(|route| !matches!(route.path, "/status" | "/doctor")) {
        let places = ["path", "query", "body"];
        for (place, fields) in places.iter().zip([route.places, route.query, route.body]) {
            for (field, value) in fields.iter().flat_map(|field| hostile().into_iter().map(move |value| (field, value))) {
                let path = route.places.iter().fold(route.path.to_owned(), |path, own| {
                    let given = if *place == "path" && own.name == field.name { as_text(&value) } else { as_text(&good(own)) };
                    path.replace(&format!("{{{}}}", own.name), &encode(&given))
                });
                let query = if *place == "query" { format!("?{}={}", field.name, encode(&as_text(&value))) } else { String::new() };
                let required = route.body.iter().filter(|own| own.is_required);
                let mut body: Map<String, Value> = required.map(|own| (own.name.to_owned(), good(own))).collect();
                if *place == "body" {
                    body.insert(field.name.to_owned(), value.clone());
                }
                let body = (route.verb.name() != "GET").then_some(Value::Object(body));
                let reply = api.send(Some(admin()), request(route.verb.name(), &format!("{path}{query}"), body.as_ref())).await;
                asked += 1;
                let is_json = reply.json != Value::Null || reply.text.trim() == "null";
                if reply.status.is_server_error() || !is_json || reply.header("x-content-type-options") != "nosniff" {
                    let shown: String = value.to_string().chars().take(60).collect();
                    broken.push(format!(
                        "{} {} {place} {}={shown}: {} {:.200}",
                        route.verb.name(),
                        route.path,
                        field.name,
                        reply.status,
                        reply.text
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} of {asked}: {broken:#?}", broken.len());
    assert_eq!(api.database.count("events").await, 3);
    assert_eq!(address(&ROUTES[0]), "/status");
}
