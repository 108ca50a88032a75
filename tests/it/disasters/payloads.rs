//! A payload that is larger than all that the relay may hold.

use crate::support::{NewRow, Recorder, TestDatabase, quick_handler, relay};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_fifty_megabytes_arrives_byte_for_byte_between_small_ones() {
    const SIZE: usize = 50 << 20;
    let (database, recorder) = (TestDatabase::empty().await, Recorder::new());
    outboxd::store::migrate(database.pool(), "outbox", Some(64 << 20)).await.expect("the migrations apply");
    let relay = relay(&database)
        .configure(|config| {
            config.outbox.max_payload = 64 << 20;
            config.relay.memory = 16 << 20;
        })
        .configured_handler("all", recorder.handler(), quick_handler)
        .start()
        .expect("the relay starts");
    let small = |number: i64| NewRow::new("small").of("order", 1).payload(json!({ "n": number }));
    let payload = format!("{{\"n\": 2,  \"text\": \"{}\"}}", "äx".repeat(SIZE / 3));
    database.insert_event(small(1)).await;
    sqlx::query("insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('big', 'order', '1', $1::json)")
        .bind(&payload)
        .execute(database.pool())
        .await
        .expect("the bound is raised");
    database.insert_event(small(3)).await;

    let delivered = recorder.wait_for(3).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), [1, 2, 3]);
    assert!(delivered[1].payload == payload, "the large one has other bytes");
}
