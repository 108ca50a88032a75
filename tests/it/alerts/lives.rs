//! The life of an alert: it fires, is told together with others, again and again, and is over; whatever happens to the relay.

use super::{QUICK, Scene, all_told, assert_signed, told, webhook};
use crate::support::{Answer, Receiver, eventually};

const FIRED: &str = "firing OutboxDeadLetters/billing";
const OVER: &str = "resolved OutboxDeadLetters/billing";

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_call_a_human_and_their_end_is_told() {
    let ops = Receiver::start().await;
    let scene =
        Scene::new(&["billing"], &format!("{QUICK}external_url = \"https://relay.example.org/\"\n{}", webhook("ops", &ops))).await;
    let relay = scene.start().await;
    let event = scene.fail("billing").await;

    let received = ops.wait_for(1).await;
    assert_signed(&received[0]);
    let body = received[0].json();
    let alert = &body["alerts"][0];
    assert_eq!(
        (body["version"].as_str(), body["status"].as_str(), body["receiver"].as_str()),
        (Some("4"), Some("firing"), Some("ops"))
    );
    let annotation = |name: &str| alert["annotations"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(annotation("summary"), "1 dead letter");
    assert_eq!(annotation("command"), "outboxd dead-letters list --handler billing");
    assert_eq!((annotation("sample_event"), annotation("sample_type")), (event, "billing.placed".to_owned()));
    assert!(annotation("sample_error").contains("that is not an order"), "{alert}");
    assert_eq!(alert["generatorURL"], "https://relay.example.org/");
    assert!(!String::from_utf8_lossy(received[0].body()).contains("DE99"), "payloads stay here");

    scene.discard().await;
    let received = ops.wait_for(2).await;
    assert_eq!(all_told(&received), [FIRED, OVER]);
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
    assert_eq!(all_told(&ops.received()), [FIRED, OVER]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_leaves_only_when_that_is_wanted() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}include_payload = true\n{}", webhook("ops", &ops))).await;
    let _relay = scene.start().await;
    scene.fail("billing").await;

    let received = ops.wait_for(1).await;
    assert_eq!(received[0].json()["alerts"][0]["annotations"]["sample_payload"], "{\"iban\": \"DE99\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_within_the_group_wait_is_one_message() {
    let ops = Receiver::start().await;
    // Everything that happens before the first message is due goes out with it.
    let alerts = "[alerts]\ninterval = \"150ms\"\ngroup_wait = \"3s\"\n";
    let scene = Scene::new(&["billing", "stock", "mail"], &format!("{alerts}{}", webhook("ops", &ops))).await;
    for handler in ["billing", "stock", "mail"] {
        scene.fail(handler).await;
    }
    let _relay = scene.start().await;

    let received = ops.wait_for(1).await;
    assert_eq!(
        told(&received[0]),
        ["firing OutboxDeadLetters/billing", "firing OutboxDeadLetters/mail", "firing OutboxDeadLetters/stock"]
    );
    assert_eq!(received[0].json()["commonLabels"]["alertname"], "OutboxDeadLetters");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_is_gets_told_again_until_a_human_knows() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}repeat_interval = \"1s\"\n{}", webhook("ops", &ops))).await;
    let _relay = scene.start().await;
    scene.fail("billing").await;
    let received = ops.wait_for(3).await;
    assert_eq!(all_told(&received)[..3], [FIRED, FIRED, FIRED]);
    let state = |place: usize| received[place].json()["alerts"][0]["annotations"]["state"].as_str().map(str::to_owned);
    assert_eq!((state(0).as_deref(), state(2).as_deref()), (Some("firing"), Some("still firing")));

    let known = scene.binary.run(&["alerts", "ack", "dead_letters/billing"]).await;
    assert_eq!(known.code, Some(0), "{known:?}");
    // The relay has seen it once it has looked again; from then on only the end is told.
    scene.wait_for("status = 'acknowledged' and last_seen_at > changed_at").await;
    let before = ops.received().len();
    scene.discard().await;
    let received = ops.wait_until("the end", |received| all_told(received).last().is_some_and(|last| last == OVER)).await;
    // One may have been on its way while the person typed.
    assert!(received.len() <= before + 2, "{:?}", all_told(&received));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_while_firing_is_neither_forgotten_nor_told_twice() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}{}", webhook("ops", &ops))).await;
    let first = scene.start().await;
    scene.fail("billing").await;
    let received = ops.wait_for(1).await;
    scene.wait_until_noted("ops").await;
    first.kill().await;

    let second = scene.start().await;
    scene.discard().await;
    let after = ops.wait_for(2).await;
    assert_eq!(all_told(&after), [FIRED, OVER]);
    assert_eq!(after[0].id, received[0].id);
    second.terminate();
    assert_eq!(second.finish().await.code, Some(0));
    assert_eq!(ops.received().len(), 2, "{:?}", all_told(&ops.received()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_relay_sent_and_could_not_note_is_sent_again_under_the_same_id() {
    let ops = Receiver::answering(|_| Answer::Hang).await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}{}", webhook("ops", &ops))).await;
    let first = scene.start().await;
    scene.fail("billing").await;
    ops.wait_for(1).await;
    first.kill().await;
    ops.answer_with(|_| Answer::ok());

    let _second = scene.start().await;
    let received = ops.wait_for(2).await;
    assert_eq!(all_told(&received), [FIRED, FIRED]);
    assert_eq!(received[0].id, received[1].id, "the receiver can tell that it has seen it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_frozen_while_firing_tells_nothing_when_it_wakes() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}repeat_interval = \"1s\"\n{}", webhook("ops", &ops))).await;
    let first = scene.start().await;
    scene.fail("billing").await;
    ops.wait_for(1).await;
    scene.wait_until_noted("ops").await;
    first.freeze();
    let second = scene.start().await;
    scene.discard().await;
    let received = ops.wait_until("the end", |received| all_told(received).last().is_some_and(|last| last == OVER)).await;

    // It would repeat what it believes; its lease is over, and it finds that out.
    first.thaw();
    first.wait_for_output("another instance looks after the alerts now").await;
    first.terminate();
    assert_eq!(first.finish().await.code, Some(0));
    assert_eq!(all_told(&ops.received()), all_told(&received));
    second.terminate();
    assert_eq!(second.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_tells() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}{}", webhook("ops", &ops))).await;
    let first = scene.start().await;
    let second = scene.binary.spawn(&["run"]);
    eventually("both run", || async { (scene.database.count("instances").await == 2).then_some(()) }).await;
    scene.fail("billing").await;
    ops.wait_for(1).await;
    scene.discard().await;
    let received = ops.wait_for(2).await;
    assert_eq!(all_told(&received), [FIRED, OVER]);
    // The one that stops gives the alerts back, and the other goes on where it ended.
    let epoch = scene.epoch().await;
    first.terminate();
    assert_eq!(first.finish().await.code, Some(0));
    eventually("the other one takes over", || async { (scene.epoch().await > epoch).then_some(()) }).await;
    scene.fail("billing").await;
    let received = ops.wait_for(3).await;
    assert_eq!(all_told(&received), [FIRED, OVER, FIRED]);
    second.terminate();
    assert_eq!(second.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_setting_alerts_are_lines_in_the_log() {
    let scene = Scene::new(&["billing"], "[alerts]\ninterval = \"150ms\"\ngroup_wait = \"0s\"\n").await;
    let relay = scene.start().await;
    let event = scene.fail("billing").await;
    let at_once = relay.wait_for_output("dead letter").await;
    assert!(at_once.contains(&event) && at_once.contains("outboxd dead-letters show"), "{at_once}");
    let line = relay.wait_for_output("alert=\"dead_letters/billing\"").await;
    assert!(line.contains("ERROR") && line.contains("outboxd dead-letters list --handler billing"), "{line}");
    scene.discard().await;
    relay.wait_for_output("state=\"resolved\"").await;
}
