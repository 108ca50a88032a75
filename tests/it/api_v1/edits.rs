//! A dead letter is edited: with the right to payloads, once, under its contract.

use axum::http::StatusCode;
use outboxd::operations::Role;
use serde_json::json;
use uuid::Uuid;

use super::{Api, caller, request};

#[tokio::test]
async fn the_same_edit_again_changes_nothing_and_another_one_is_refused() {
    let api = Api::create().await;
    let event = api.add("dead", "order/42").await;
    let path = format!("/dead-letters/{event}/billing/edit");
    let plan = api.post(&format!("{path}/preview"), &json!({ "payload": { "seq": 9007199254740993_u64, "new": [1] } })).await;
    let changes = json!([{ "path": "new", "was": null, "now": "[1]" }, { "path": "seq", "was": "7", "now": "9007199254740993" }]);
    assert_eq!((plan.status, &plan.json["changes"]), (StatusCode::OK, &changes), "{}", plan.text);
    assert_eq!((&plan.json["contract"], &plan.json["followers"]), (&json!("unchecked"), &json!(0)));
    assert_eq!(api.database.count("events").await, 1);

    let id = Uuid::new_v4();
    let mut order = json!({ "payload": { "seq": 8 }, "id": id, "because": "their format" });
    for (role, payloads) in [(Role::Operate, false), (Role::Read, true)] {
        let refused = api.send(Some(caller(role, payloads)), request("POST", &path, Some(&order))).await;
        assert_eq!((refused.status, refused.kind()), (StatusCode::FORBIDDEN, "forbidden"), "{}", refused.text);
    }
    let done = api.post(&path, &order).await;
    let recorded = json!({ "id": id, "corrects": event, "handler": "billing", "is_new": true });
    assert_eq!((done.status, &done.json), (StatusCode::CREATED, &recorded), "{}", done.text);
    assert_eq!(done.header("location"), format!("/api/v1/events/{id}"));
    let again = api.post(&path, &order).await;
    assert_eq!((again.status, &again.json["is_new"]), (StatusCode::OK, &json!(false)), "{}", again.text);
    order["payload"]["seq"] = json!(9);
    let other = api.post(&path, &order).await;
    assert_eq!((other.status, other.kind()), (StatusCode::CONFLICT, "conflict"), "{}", other.text);
    assert_eq!(
        (api.database.count("events").await, api.database.count("audit where action = 'edit' and via = 'api'").await),
        (2, 1)
    );

    // What became of both, in one sentence each.
    let why = api.read(&format!("/events/{event}/explain?handler=billing")).await;
    assert!(
        why["handlers"][0]["text"].as_str().is_some_and(|text| text.ends_with(&format!("corrected by event {id}: their format"))),
        "{why}"
    );
    api.add_handler("mail").await;
    let why = api.read(&format!("/events/{id}/explain?handler=mail")).await;
    assert_eq!(why["handlers"][0]["text"], format!("not for this handler: it corrects event {event} for billing only"));
}
