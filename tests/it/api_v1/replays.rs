//! Replays: the client names them, so that asking twice is asking once.

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Api;

async fn order(api: &Api) -> Value {
    let seen = api.post("/replays/preview", &json!({ "handler": "billing" })).await;
    assert_eq!(seen.status, StatusCode::OK, "{}", seen.text);
    json!({ "handler": "billing", "as_of": seen.json["as_of"], "expected": seen.json["matched"], "rate": "50/s", "because": "their fix is out" })
}

#[tokio::test]
async fn the_same_request_again_is_the_same_replay_and_another_one_is_refused() {
    let api = Api::create().await;
    api.add_dead(4).await;
    let (order, id) = (order(&api).await, Uuid::new_v4());
    let path = format!("/replays/{id}");

    let created = api.put(&path, &order).await;
    assert_eq!(
        (created.status, created.header("location")),
        (StatusCode::CREATED, format!("/api/v1{path}").as_str()),
        "{}",
        created.text
    );
    assert_eq!(
        (created.json["asked"].as_u64(), created.json["actor"].as_str(), created.json["rate"].as_f64()),
        (Some(4), Some("ann"), Some(50.0))
    );
    api.add_dead(1).await;
    let again = api.put(&path, &order).await;
    assert_eq!((again.status, &again.json), (StatusCode::OK, &created.json), "{}", again.text);

    for (field, value) in [
        ("rate", json!("60/s")),
        ("because", json!("another reason")),
        ("key", json!("k1")),
        ("as_of", json!("2030-01-01T00:00:00Z")),
    ] {
        let mut other = order.clone();
        other[field] = value;
        let refused = api.put(&path, &other).await;
        assert_eq!((refused.status, refused.kind()), (StatusCode::CONFLICT, "taken"), "{field}: {}", refused.text);
        assert_eq!(refused.json["command"], format!("outboxd replays show {id}"));
    }
    assert_eq!((api.database.count("replays").await, api.database.count("audit where via = 'api'").await), (1, 1));
    assert_eq!(api.database.count("replay_items").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_one_replay_at_the_same_time_start_it_once() {
    let api = Api::create().await;
    api.add_dead(3).await;
    let (order, path) = (order(&api).await, format!("/replays/{}", Uuid::new_v4()));
    let replies = futures_util::future::join_all((0..6).map(|_| api.put(&path, &order))).await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 201]);
    assert_eq!((api.database.count("replays").await, api.database.count("replay_items").await), (1, 3));
}

#[tokio::test]
async fn a_replay_of_another_number_than_was_seen_does_not_begin() {
    let api = Api::create().await;
    api.add_dead(3).await;
    let order = order(&api).await;
    // Another operator holds one of them by now.
    let other = json!({ "handler": "billing", "key": "k0", "as_of": order["as_of"], "expected": 1 });
    assert_eq!(api.put(&format!("/replays/{}", Uuid::new_v4()), &other).await.status, StatusCode::CREATED);
    let drifted = api.put(&format!("/replays/{}", Uuid::new_v4()), &order).await;
    assert_eq!((drifted.kind(), &drifted.json["preview"]["matched"]), ("drifted", &json!(2)), "{}", drifted.text);
    assert_eq!(api.database.count("replays").await, 1);
}

#[tokio::test]
async fn a_replay_is_cancelled_resumed_and_listed_and_what_was_delivered_needs_force() {
    let api = Api::create().await;
    api.add_dead(2).await;
    api.add("delivered", "k").await;
    let (order, id) = (order(&api).await, Uuid::new_v4());
    api.put(&format!("/replays/{id}"), &order).await;
    let cancelled = api.post(&format!("/replays/{id}/cancel"), &json!({ "because": "they are down again" })).await;
    assert_eq!((cancelled.json["state"].as_str(), cancelled.json["cancelled_by"].as_str()), (Some("cancelled"), Some("ann")));
    assert_eq!(api.post(&format!("/replays/{id}/cancel"), &json!({})).await.kind(), "conflict");
    let resumed = api.post(&format!("/replays/{id}/resume"), &json!({})).await;
    assert_eq!((resumed.json["state"].as_str(), resumed.json["held"].as_u64()), (Some("running"), Some(2)), "{}", resumed.text);
    assert_eq!(api.read("/replays").await["replays"][0]["id"], id.to_string());
    let unknown = api.get(&format!("/replays/{}", Uuid::new_v4())).await;
    assert_eq!((unknown.status, unknown.json["command"].as_str()), (StatusCode::NOT_FOUND, Some("outboxd replays list")));

    let seen = api.post("/replays/preview", &json!({ "delivered": true, "handler": "billing" })).await.json;
    let mut order = json!({ "delivered": true, "handler": "billing", "as_of": seen["as_of"], "expected": seen["matched"] });
    let refused = api.put(&format!("/replays/{}", Uuid::new_v4()), &order).await;
    assert_eq!((refused.status, refused.kind()), (StatusCode::UNPROCESSABLE_ENTITY, "refused"), "{}", refused.text);
    order["force"] = json!(true);
    assert_eq!(api.put(&format!("/replays/{}", Uuid::new_v4()), &order).await.status, StatusCode::CREATED);
}
