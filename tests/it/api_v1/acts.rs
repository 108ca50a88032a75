//! What else an operator does: handlers, keys, events, alerts; and why an event waits.

use axum::http::StatusCode;
use outboxd::management::{ApiState, connect};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Api;

#[tokio::test]
async fn a_handler_is_paused_and_resumed_and_the_audit_knows_the_road() {
    let api = Api::create().await;
    let paused = api.post("/handlers/billing/pause", &json!({ "because": "they move" })).await;
    assert_eq!((&paused.json["changed"], &paused.json["handler"]["state"]), (&json!(true), &json!("paused")), "{}", paused.text);
    assert_eq!(api.post("/handlers/billing/pause", &json!({ "because": "again" })).await.json["changed"], false);
    assert_eq!(api.read("/handlers/billing").await["paused_by"], "ann");
    assert_eq!(api.read("/status").await["handlers"][0]["state"], "paused", "one state everywhere");
    assert_eq!(api.post("/handlers/billing/resume", &json!({})).await.json["handler"]["state"], "ok");
    let actions: Vec<(String, String)> =
        sqlx::query_as("select action, via from outbox.audit order by id").fetch_all(api.database.pool()).await.expect("rows");
    assert_eq!(actions, [("pause".to_owned(), "api".to_owned()), ("resume".to_owned(), "api".to_owned())]);

    api.database
        .execute("update outbox.subscriptions set circuit = 'open', circuit_since = now(), circuit_reason = 'timeout'")
        .await;
    let explained = api.read("/handlers").await;
    assert_eq!(
        (&explained["handlers"][0]["state"], &explained["handlers"][0]["open_circuits"]),
        (&json!("circuit_open"), &json!(1))
    );
    assert_eq!(api.post("/handlers/billing/circuit/close", &json!({})).await.json["changed"], true);
    assert_eq!(api.read("/handlers").await["handlers"][0]["state"], "ok");

    let untried = api.post("/handlers/billing/test", &json!({})).await;
    assert_eq!((untried.kind(), untried.json["command"].as_str()), ("refused", Some("outboxd handlers test billing")));
}

#[tokio::test]
async fn a_key_is_skipped_only_where_it_waits_for_what_was_seen() {
    let api = Api::create().await;
    let (head, follower) = (api.add("dead", "order/42").await, api.add("waiting", "order/42").await);
    let listed = api.read("/keys").await;
    assert_eq!((&listed["keys"][0]["head"], &listed["keys"][0]["followers"]), (&json!(head), &json!(1)));
    let why = api.read(&format!("/events/{follower}/explain")).await;
    let text = why["handlers"][0]["text"].as_str().expect("a sentence");
    assert!(text.starts_with(&format!("behind event {head} of key order/42, which is a dead letter since ")), "{text}");
    assert_eq!(why["handlers"][0]["command"], "outboxd keys skip billing order/42 --because ...");

    let mut body = json!({ "handler": "billing", "key": "order/42", "head": Uuid::new_v4(), "because": "sent by hand" });
    let other = api.post("/keys/skip", &body).await;
    assert_eq!((other.status, other.kind()), (StatusCode::CONFLICT, "conflict"), "{}", other.text);
    body["head"] = json!(head);
    assert_eq!(api.post("/keys/skip", &body).await.json, json!({ "head": head, "was": "dead" }));
    assert_eq!(api.read("/keys").await["keys"], json!([]));
}

#[tokio::test]
async fn why_an_event_waits_is_one_sentence_from_the_facts() {
    let api = Api::create().await;
    let explain = async |id: Uuid| {
        let told = api.read(&format!("/events/{id}/explain?handler=billing")).await;
        (told["handlers"][0]["text"].as_str().expect("a sentence").to_owned(), told["handlers"][0]["command"].clone())
    };
    let (dead, retrying) = (api.add("dead", "a").await, api.add("retrying", "b").await);
    let done = api.add("delivered", "c").await;
    let pending = api.database.insert_event(crate::support::NewRow::new("order.placed")).await;
    assert!(explain(dead).await.0.starts_with("a dead letter at "), "{:?}", explain(dead).await);
    assert!(explain(retrying).await.0.starts_with("attempt 12 failed with server_error (500); the next attempt is due at "));
    assert!(explain(done).await.0.starts_with("delivered at "));
    let text = explain(pending).await.0;
    assert!(text.starts_with("not read yet: 1 event of the handler is pending"), "{text}");
    api.post("/handlers/billing/pause", &json!({ "because": "they move" })).await;
    let (text, command) = explain(pending).await;
    assert!(text.starts_with("not read yet: the handler is paused by ann since ") && text.ends_with(": they move"), "{text}");
    assert_eq!(command, "outboxd handlers resume billing");
    api.post("/handlers/billing/resume", &json!({})).await;
    api.database.execute("update outbox.subscriptions set owner = null").await;
    assert_eq!(explain(pending).await.0, "not read yet: no relay owns the handler");
    let unknown = api.get(&format!("/events/{}/explain", Uuid::new_v4())).await;
    assert_eq!(unknown.kind(), "not-found");
}

#[tokio::test]
async fn an_event_is_buried_a_handler_moved_and_forgotten_and_relays_are_asked_to_reload() {
    let api = Api::create().await;
    let id = api.add("retrying", "b").await;
    let body = json!({ "handler": "billing", "because": "unknown to them" });
    assert_eq!(
        api.post(&format!("/events/{id}/bury"), &body).await.json,
        json!({ "event": id, "handler": "billing", "was": "retrying" })
    );
    assert_eq!(api.post(&format!("/events/{id}/bury"), &body).await.kind(), "conflict");

    let owned = api.post("/handlers/billing/forget", &json!({})).await;
    assert_eq!((owned.kind(), owned.json["command"].as_str()), ("conflict", Some("outboxd reload")), "{}", owned.text);
    let plan = api.post("/handlers/billing/rewind/preview", &json!({ "to": "beginning" })).await;
    assert_eq!((&plan.json["again"], &plan.json["needs_force"]), (&json!(1), &json!(true)), "{}", plan.text);
    let refused = api.post("/handlers/billing/rewind", &json!({ "to": "beginning" })).await;
    assert_eq!(refused.kind(), "refused", "{}", refused.text);
    let moved = api.post("/handlers/billing/rewind", &json!({ "to": "beginning", "force": true })).await;
    assert_eq!((moved.status, &moved.json["again"]), (StatusCode::OK, &json!(1)), "{}", moved.text);
    let skipped = api.post("/handlers/billing/start-from", &json!({ "from": "now" })).await;
    assert_eq!((skipped.status, &skipped.json["skipped"]), (StatusCode::OK, &json!(1)), "{}", skipped.text);
    assert_eq!(api.post("/handlers/billing/start-from", &json!({ "from": "now" })).await.kind(), "conflict", "it is there");

    api.database.execute("update outbox.subscriptions set owner = null").await;
    let plan = api.post("/handlers/billing/forget/preview", &json!({})).await;
    assert_eq!((&plan.json["handler"], &plan.json["owners"]), (&json!("billing"), &json!([])), "{}", plan.text);
    assert_eq!(api.post("/handlers/billing/forget", &json!({})).await.json["subscriptions"], 1);
    assert_eq!(api.get("/handlers/billing").await.status, StatusCode::NOT_FOUND);

    assert_eq!(api.post("/reload", &json!({})).await.kind(), "refused", "no relay runs");
    api.database.execute("insert into outbox.instances (id, host, pid, version) values ('r1', 'here', 7, '0')").await;
    let asked = api.post("/reload", &json!({})).await;
    assert_eq!(
        (asked.status, &asked.json),
        (StatusCode::ACCEPTED, &json!({ "relays": [{ "id": "r1", "host": "here", "pid": 7 }] }))
    );
    assert_eq!(api.read("/relays").await["relays"][0]["is_alive"], true);
}

#[tokio::test]
async fn an_alert_is_acknowledged_and_snoozed_by_its_key() {
    let api = Api::create().await;
    api.database
        .execute(
            "insert into outbox.alerts (key, kind, subject, severity, status, started_at, last_seen_at, changed_at, revision, count, told_count, told_at)
             values ('dead_letters/billing', 'dead_letters', 'billing', 'critical', 'firing', now(), now(), now(), 1, 3, 3, now())",
        )
        .await;
    let alert = &api.read("/alerts").await["alerts"][0];
    assert_eq!((&alert["key"], &alert["summary"]), (&json!("dead_letters/billing"), &json!("3 dead letters")));
    let known = api.post("/alerts/dead_letters%2Fbilling/ack", &json!({ "because": "ann looks" })).await;
    assert_eq!((&known.json["changed"], &known.json["alert"]["acknowledged_by"]), (&json!(true), &json!("ann")), "{}", known.text);
    let silent = api.post("/alerts/dead_letters%2Fbilling/snooze", &json!({ "for": "2h" })).await;
    assert!(silent.json["alert"]["snoozed_until"].is_string(), "{}", silent.text);
    assert_eq!(api.post("/alerts/nothing/ack", &json!({})).await.kind(), "not-found");
}

#[tokio::test]
async fn the_doctor_and_the_status_are_told_and_a_broken_configuration_is_a_finding() {
    let mut api = Api::create().await;
    assert_eq!(api.read("/status").await["level"], "critical", "no relay runs");
    let left_out = api.read("/doctor").await["left_out"].to_string();
    assert!(left_out.contains("no configuration was read"), "{left_out}");
    let read = std::sync::Arc::new(|| Err("handlers.billing.timeout: got 30".to_owned()));
    let state = ApiState::new(api.database.pool().clone(), "outbox").with_configuration(read);
    api.router = axum::Router::new().nest("/api/v1", outboxd::management::router(state));
    let findings = api.read("/doctor").await["findings"].to_string();
    assert!(findings.contains("got 30"), "{findings}");
}

/// What an operator looks at neither waits for the relay nor keeps it waiting.
#[tokio::test]
async fn the_pool_is_small_says_what_it_is_and_gives_up_early() {
    let api = Api::create().await;
    let patience = std::time::Duration::from_secs(30);
    let database = outboxd::config::Database {
        url: outboxd::Secret::new(api.database.url()),
        max_connections: 20,
        connect_timeout: patience,
        statement_timeout: patience,
        lock_timeout: patience,
        follow_new_timeline: false,
    };
    let pool = connect(&database, "outbox", "outboxd management").await.expect("the server is there");
    let mut session: Vec<String> = Vec::new();
    for setting in ["application_name", "statement_timeout", "row_security"] {
        let show = sqlx::AssertSqlSafe(format!("show {setting}"));
        session.push(sqlx::query_scalar(show).fetch_one(&pool).await.expect("a setting"));
    }
    assert_eq!(session, ["outboxd management", "5s", "off"]);
    assert!(pool.options().get_max_connections() <= 4);

    // A statement that takes too long is told as that, with the command that waits longer.
    let mut lock = api.database.pool().begin().await.expect("a transaction");
    sqlx::raw_sql("lock table outbox.audit in access exclusive mode").execute(&mut *lock).await.expect("it is locked");
    let mut hurried = api.database.url().parse::<sqlx::postgres::PgConnectOptions>().expect("an address");
    hurried = hurried.options([("search_path", "outbox,pg_catalog,public"), ("statement_timeout", "50")]);
    let hurried = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_lazy_with(hurried);
    let api =
        Api { router: axum::Router::new().nest("/api/v1", outboxd::management::router(ApiState::new(hurried, "outbox"))), ..api };
    let slow = api.get("/audit").await;
    assert_eq!((slow.status, slow.kind(), slow.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "too-slow", "5"));
    assert_ne!(slow.json["command"], Value::Null);
    lock.rollback().await.expect("it is free again");
    pool.close().await;
}
