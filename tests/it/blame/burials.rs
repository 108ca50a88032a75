//! `outboxd events bury`: an event that has no row yet, with a relay that runs.

use super::{hook, numbered, wait_for_rows};
use crate::support::{Answer, Binary, Receiver, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_row_is_buried_under_a_running_relay_and_its_key_goes_on() {
    let (database, receiver) = (
        TestDatabase::create().await,
        Receiver::answering(|request| match request.json()["n"] == 1 {
            true => Answer::status(404),
            false => Answer::ok(),
        })
        .await,
    );
    let binary = Binary::relay(database.url(), &hook(&receiver.url()));
    let running = binary.spawn(&["run"]);
    let id = database.insert_event(numbered("a", 1)).await.to_string();
    wait_for_rows(&database, "subscriptions where circuit = 'open' and circuit_witness is not null", 1).await;
    let status = binary.run(&["status"]).await.stdout;
    assert!(status.contains(&format!("outboxd events bury {id} --handler shop --because")), "{status}");
    let keys = binary.run(&["keys", "list"]).await.stdout;
    assert!(keys.contains(&id) && keys.contains("order/a"), "{keys}");

    let buried = binary.run(&["events", "bury", &id, "--handler", "shop", "--because", "unknown to them", "--yes"]).await;
    assert_eq!(buried.code, Some(0), "{}", buried.stderr);
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'operator' and detail = 'unknown to them'", 1).await;
    wait_for_rows(&database, "audit where action = 'bury' and handler = 'shop'", 1).await;
    wait_for_rows(&database, "subscriptions where circuit = 'closed'", 1).await;
    database.insert_event(numbered("a", 2)).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 1).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));

    for (handler, event, want) in [
        ("shop", id.as_str(), "it is a dead letter already"),
        ("shop", "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f", "there is no event"),
    ] {
        let refused = binary.run(&["events", "bury", event, "--handler", handler, "--because", "again", "--yes"]).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(want), "{refused:?}");
    }
}
