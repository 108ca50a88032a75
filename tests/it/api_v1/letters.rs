//! Dead letters: an act touches only what its preview has shown.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

async fn preview(api: &Api, filter: &Value) -> Value {
    let reply = api.post("/dead-letters/preview", filter).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json
}

#[tokio::test]
async fn a_discard_touches_what_was_seen_and_nothing_that_came_later() {
    let api = Api::create().await;
    api.add_dead(3).await;
    let seen = preview(&api, &json!({ "handler": "billing" })).await;
    assert_eq!((seen["matched"].as_u64(), seen["sample"].as_array().map(Vec::len)), (Some(3), Some(3)));
    assert!(seen["command"].as_str().expect("a command").starts_with("outboxd dead-letters discard --handler billing --until "));
    api.add_dead(2).await;

    let act = json!({ "handler": "billing", "as_of": seen["as_of"], "expected": seen["matched"], "because": "by hand, OPS-311" });
    let done = api.post("/dead-letters/discard", &act).await;
    assert_eq!((done.status, done.json["discarded"].as_u64()), (StatusCode::OK, Some(3)), "{}", done.text);
    assert_eq!(api.database.count("deliveries where state = 'dead' and seq > 3").await, 2);
    let audit = "audit where action = 'discard' and actor = 'ann' and via = 'api' and reason = 'by hand, OPS-311' and affected = 3";
    assert_eq!(api.database.count(audit).await, 1);
    assert_eq!(api.read("/audit?via=api&handler=billing").await["audit"][0]["actor"], "ann");
}

#[tokio::test]
async fn a_preview_that_is_no_longer_true_changes_nothing_and_gives_a_new_one() {
    let api = Api::create().await;
    api.add_dead(3).await;
    let seen = preview(&api, &json!({ "all": true })).await;
    // Somebody else is faster with one of them.
    api.database.execute("update outbox.deliveries set state = 'discarded' where seq = 2").await;
    let act = json!({ "all": true, "as_of": seen["as_of"], "expected": 3, "because": "by hand" });
    let drifted = api.post("/dead-letters/discard", &act).await;
    assert_eq!((drifted.status, drifted.kind()), (StatusCode::CONFLICT, "drifted"));
    assert_eq!(drifted.json["preview"]["matched"], 2, "{}", drifted.text);
    assert!(drifted.json["preview"]["sample"][0]["seq"].is_string(), "{}", drifted.text);
    assert_eq!((api.database.count("deliveries where state = 'dead'").await, api.database.count("audit").await), (2, 0));

    let again = &drifted.json["preview"];
    let act = json!({ "all": true, "as_of": again["as_of"], "expected": again["matched"], "because": "by hand" });
    assert_eq!(api.post("/dead-letters/discard", &act).await.json["discarded"], 2);
    let gone = api.post("/dead-letters/discard", &act).await;
    assert_eq!((gone.kind(), &gone.json["preview"]["matched"]), ("drifted", &json!(0)));
}

#[tokio::test]
async fn nobody_discards_everything_by_leaving_something_out() {
    let api = Api::create().await;
    api.add_dead(1).await;
    for body in [json!({}), json!({ "all": false }), json!({ "all": true, "handler": "billing" }), json!({ "handler": null })] {
        let reply = api.post("/dead-letters/preview", &body).await;
        assert_eq!((reply.kind(), &reply.json["errors"][0]["field"]), ("invalid-request", &json!("all")), "{body}");
    }
    let blank = json!({ "all": true, "as_of": "2030-01-01T00:00:00Z", "expected": 1, "because": "  " });
    let reply = api.post("/dead-letters/discard", &blank).await;
    assert_eq!((reply.kind(), &reply.json["errors"][0]["field"]), ("invalid-request", &json!("because")));
    assert_eq!(api.database.count("deliveries where state = 'dead'").await, 1);
}

#[tokio::test]
async fn a_group_is_noted_on_and_a_letter_is_shown_with_its_commands() {
    let api = Api::create().await;
    let id = api.add("dead", "k").await;
    let noted = api.post("/dead-letters/groups/0000000000000007/notes", &json!({ "text": "fix on Monday" })).await;
    assert_eq!((noted.status, &noted.json), (StatusCode::OK, &json!({ "group": "0000000000000007", "handlers": 1 })));
    assert_eq!(api.read("/dead-letters/groups").await["groups"][0]["notes"][0]["actor"], "ann");
    let none = api.post("/dead-letters/groups/00000000000000aa/notes", &json!({ "text": "x" })).await;
    assert_eq!((none.status, none.kind()), (StatusCode::NOT_FOUND, "not-found"));

    let letter = api.read(&format!("/dead-letters/{id}/billing")).await;
    assert_eq!(letter["deliveries"][0]["commands"]["replay"], format!("outboxd dead-letters replay --id {id} --handler billing"));
    assert_eq!(
        (letter["event"]["seq"].as_str(), &letter["event"]["payload"]["seq"]),
        (Some("1"), &json!(7)),
        "a payload keeps its numbers"
    );
    let list = api.read("/dead-letters?type=order.*&handler=billing").await;
    assert_eq!(list["command"], "outboxd dead-letters list --handler billing --type 'order.*'");
}
