//! What a person does about whole handlers: looking, pausing, resuming, forgetting.

use outboxd::store::{self, Actor, Forgotten};
use serde_json::Value;

use super::Outbox;

#[tokio::test]
async fn a_handler_is_paused_and_resumed() {
    let outbox = Outbox::create().await;
    outbox
        .database
        .execute("update outbox.subscriptions set owner = 'r1', lease_until = clock_timestamp() + interval '1 hour'")
        .await;
    let state = async || outbox.run_json(&["handlers", "list"]).await["handlers"][0]["state"].clone();
    assert_eq!(state().await, "ok");

    let paused = outbox.run_json(&["handlers", "pause", "billing", "--because", "receiver moves"]).await;
    assert_eq!((&paused["changed"], &paused["handler"]["paused_by"]), (&Value::Bool(true), &Value::from("ada")));
    let again = outbox.run_json(&["handlers", "pause", "billing", "--because", "another"]).await;
    assert_eq!((&again["changed"], &again["handler"]["pause_reason"]), (&Value::Bool(false), &Value::from("receiver moves")));
    assert_eq!(state().await, "paused");

    let resumed = outbox.run_json(&["handlers", "resume", "billing"]).await;
    assert_eq!((&resumed["changed"], &resumed["handler"]["paused_at"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(state().await, "ok");
    let actions: Vec<(String, Option<String>)> = sqlx::query_as("select action, reason from outbox.audit order by id")
        .fetch_all(outbox.database.pool())
        .await
        .expect("rows");
    assert_eq!(actions, [("pause".to_owned(), Some("receiver moves".to_owned())), ("resume".to_owned(), None)]);
}

#[tokio::test]
async fn the_list_of_handlers_tells_the_state_the_lag_and_what_is_parked() {
    let outbox = Outbox::create().await;
    for state in ["dead", "retrying", "waiting", "waiting"] {
        outbox.add(state, Some("a")).await;
    }
    outbox.add_handler("mail").await;
    let lease = "owner = 'r1', lease_until = clock_timestamp() + interval '1 hour'";
    let sql = format!(
        "update outbox.subscriptions set {lease}, circuit = 'open', circuit_reason = 'dns', snapshot = pg_current_snapshot() where handler = 'mail'"
    );
    outbox.database.execute(&sql).await;

    let listed = outbox.run_json(&["handlers", "list"]).await;

    let numbers = |row: &Value| {
        ["pending", "retrying", "waiting", "dead", "partitions", "owned"].map(|name| row[name].as_u64().unwrap_or(99))
    };
    let (billing, mail) = (&listed["handlers"][0], &listed["handlers"][1]);
    assert_eq!((&billing["state"], numbers(billing)), (&Value::from("no_owner"), [0, 1, 2, 1, 1, 0]));
    assert_eq!((&mail["state"], numbers(mail)), (&Value::from("circuit_open"), [0, 0, 0, 0, 1, 1]));
    let words = outbox.run(&["handlers", "list"]).await.stdout;
    assert!(words.contains("no owner") && words.contains("circuit open: dns"), "{words}");
}

#[tokio::test]
async fn a_handler_with_a_live_owner_is_not_forgotten() {
    let outbox = Outbox::create().await;
    outbox.add("dead", Some("a")).await;
    outbox
        .database
        .execute("update outbox.subscriptions set owner = 'r1', lease_until = clock_timestamp() + interval '1 hour'")
        .await;

    let refused = outbox.run(&["handlers", "forget", "billing", "--yes"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("served by r1"), "{}", refused.stderr);
    // The same without the look that the command takes first: a relay may have come in between.
    let outcome = store::forget_handler(outbox.database.pool(), "billing", Actor::cli("ada"), None).await.expect("it is looked at");
    assert_eq!(outcome, Forgotten::Owned(vec!["r1".to_owned()]));
    assert_eq!(outbox.database.count("deliveries").await, 1);
}

#[tokio::test]
async fn a_handler_that_nobody_serves_is_forgotten_with_its_deliveries_only() {
    let outbox = Outbox::create().await;
    outbox.add("dead", Some("a")).await;
    outbox.add_handler("mail").await;
    // Its last owner died: the lease has run out.
    outbox
        .database
        .execute("update outbox.subscriptions set owner = 'r1', lease_until = clock_timestamp() - interval '1 hour'")
        .await;

    assert_eq!(outbox.run(&["handlers", "forget", "billing"]).await.code, Some(64), "it asks");
    let done = outbox.run_json(&["handlers", "forget", "billing", "--yes"]).await;

    assert_eq!((done["subscriptions"].as_u64(), done["deliveries"].as_u64()), (Some(1), Some(1)));
    assert_eq!(outbox.database.count("deliveries").await, 0);
    assert_eq!(outbox.database.count("subscriptions where handler = 'mail'").await, 1);
    assert_eq!(outbox.database.count("events").await, 1);
    assert_eq!(outbox.database.count("audit where action = 'forget' and handler = 'billing' and affected = 1").await, 1);
}

#[tokio::test]
async fn an_unknown_handler_is_told_the_nearest_name() {
    let outbox = Outbox::create().await;
    for arguments in [
        &["handlers", "resume", "biling"][..],
        &["handlers", "pause", "biling", "--because", "x"],
        &["handlers", "forget", "biling", "--yes"],
        &["dead-letters", "list", "--handler", "biling"],
        &["dead-letters", "replay", "--handler", "biling", "--yes"],
    ] {
        let refused = outbox.run(arguments).await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        assert!(refused.stderr.contains("there is no handler \"biling\"; did you mean \"billing\"?"), "{}", refused.stderr);
    }
}
