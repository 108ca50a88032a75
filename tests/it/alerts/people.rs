//! What people do about alerts, by the built binary: listing, acknowledging, snoozing, trying out a channel.

use serde_json::Value;

use super::{QUICK, Scene, all_told, webhook};
use crate::support::{Answer, Finished, Receiver};

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_and_a_snooze_are_kept_while_the_relay_is_down() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}{}", webhook("ops", &ops))).await;
    let relay = scene.start().await;
    scene.fail("billing").await;
    ops.wait_for(1).await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));

    let listed = json(&scene.binary.run(&["alerts", "list", "--json"]).await);
    let alert = &listed["alerts"][0];
    assert_eq!((alert["key"].as_str(), alert["status"].as_str()), (Some("dead_letters/billing"), Some("firing")));
    assert_eq!((alert["summary"].as_str(), alert["count"].as_u64()), (Some("1 dead letter"), Some(1)));
    assert!(listed["channels"].as_array().is_some_and(|list| list.iter().any(|channel| channel["name"] == "ops")));

    let known = scene.binary.run(&["alerts", "ack", "dead_letters/billing", "--because", "rolling back", "--json"]).await;
    assert_eq!((known.code, &json(&known)["alert"]["acknowledged_by"]), (Some(0), &Value::from("ann")));
    let again = scene.binary.run(&["alerts", "ack", "dead_letters/billing"]).await;
    assert!(again.code == Some(0) && again.stderr.contains("was acknowledged already by ann"), "{again:?}");
    let silent = scene.binary.run(&["alerts", "snooze", "dead_letters/billing", "--for", "2h"]).await;
    assert!(silent.code == Some(0) && silent.stderr.contains("is silent until"), "{silent:?}");
    for (arguments, code) in [
        (&["alerts", "ack", "dead_letters/biling"][..], 64),
        (&["alerts", "snooze", "dead_letters/biling", "--for", "2h"], 64),
        (&["alerts", "snooze", "dead_letters/billing", "--for", "2"], 64),
    ] {
        assert_eq!(scene.binary.run(arguments).await.code, Some(code), "{arguments:?}");
    }
    assert_eq!(scene.database.count("audit where action in ('acknowledge', 'snooze') and actor = 'ann'").await, 2);
    assert_eq!(scene.database.count("audit where action = 'acknowledge' and reason = 'rolling back'").await, 1);
    let listed = scene.binary.run(&["alerts", "list"]).await;
    assert!(listed.stdout.contains("acknowledged by ann, silent until"), "{}", listed.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snoozed_alert_is_silent_and_the_truth_is_told_after_it() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}{}", webhook("ops", &ops))).await;
    let _relay = scene.start().await;
    scene.fail("billing").await;
    ops.wait_for(1).await;
    scene.binary.run(&["alerts", "snooze", "dead_letters/billing", "--for", "1h"]).await;
    scene.wait_for("snoozed_until is not null and last_seen_at > started_at").await;
    scene.discard().await;
    scene.wait_for("status = 'resolved' and now() > changed_at + interval '1 second'").await;
    assert_eq!(ops.received().len(), 1, "{:?}", all_told(&ops.received()));

    // As if the hour were over.
    scene.database.execute("update alerts set snoozed_until = clock_timestamp()").await;
    let received = ops.wait_for(2).await;
    assert_eq!(all_told(&received), ["firing OutboxDeadLetters/billing", "resolved OutboxDeadLetters/billing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pagerduty_is_told_that_a_human_knows() {
    let pager = Receiver::answering(|_| Answer::status(202)).await;
    let channel = format!(
        "[[alerts.channels]]\nname = \"pager\"\nkind = \"pagerduty\"\nrouting_key = \"k\"\nurl = \"http://{}\"\n",
        pager.address()
    );
    let scene = Scene::new(&["billing"], &format!("{QUICK}{channel}")).await;
    let _relay = scene.start().await;
    scene.fail("billing").await;
    pager.wait_for(1).await;
    scene.binary.run(&["alerts", "ack", "dead_letters/billing"]).await;
    pager.wait_for(2).await;
    scene.discard().await;
    let received = pager.wait_for(3).await;

    let told: Vec<(Value, Value)> =
        received.iter().map(|one| (one.json()["event_action"].clone(), one.json()["dedup_key"].clone())).collect();
    let key = Value::from("outboxd/dead_letters/billing");
    assert_eq!(told, ["trigger", "acknowledge", "resolve"].map(|action| (Value::from(action), key.clone())));
    assert!(received.iter().all(|one| one.request.path == "/v2/enqueue"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_tried_out_from_the_command_line() {
    let (ops, gone) = (Receiver::start().await, Receiver::answering(|_| Answer::status(404).body("no_service")).await);
    let slack = format!("[[alerts.channels]]\nname = \"slack\"\nkind = \"slack\"\nurl = \"{}\"\n", gone.url());
    let scene = Scene::new(&["billing"], &format!("{}{slack}", webhook("ops", &ops))).await;

    let sent = scene.binary.run(&["alerts", "test", "ops", "--json"]).await;
    assert_eq!((sent.code, &json(&sent)["sent"]), (Some(0), &Value::from(true)), "{sent:?}");
    let told = all_told(&ops.received());
    assert_eq!(told, ["firing OutboxDeadLetters/this-is-a-test", "resolved OutboxDeadLetters/this-is-a-test"]);

    let failed = scene.binary.run(&["alerts", "test", "slack"]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("could not send through channel slack: HTTP 404: no_service"), "{}", failed.stderr);
    let unknown = scene.binary.run(&["alerts", "test", "pager"]).await;
    assert_eq!(unknown.code, Some(64));
    assert!(unknown.stderr.contains("there is no channel \"pager\" in the configuration; it has ops, slack"), "{}", unknown.stderr);
}
