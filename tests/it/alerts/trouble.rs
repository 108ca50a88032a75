//! Trouble of other kinds: a channel that does not take what it is told, a database that goes away, a handler that nobody serves,
//! and the heartbeat that stops when all is not well.

use super::{QUICK, Scene, all_told, webhook};
use crate::support::{Answer, Proxy, Receiver, TestDatabase, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_channel_is_told_through_the_others_and_gets_what_it_missed() {
    let (ops, slack) = (Receiver::start().await, Receiver::answering(|_| Answer::status(500).body("no")).await);
    let broken = format!("[[alerts.channels]]\nname = \"slack\"\nkind = \"slack\"\nurl = \"{}\"\n", slack.url());
    let scene = Scene::new(&["billing"], &format!("{QUICK}{}{broken}", webhook("ops", &ops))).await;
    let _relay = scene.start().await;
    scene.fail("billing").await;

    let told = |line: &'static str| move |received: &[_]| all_told(received).iter().any(|told| told == line);
    let received = ops.wait_until("the dead channel", told("firing OutboxChannelFailed/slack")).await;
    let last = received.last().expect("there is one").json();
    let failed = &last["alerts"]
        .as_array()
        .expect("alerts")
        .iter()
        .find(|alert| alert["labels"]["channel"] == "slack")
        .expect("it")["annotations"];
    assert!(failed["summary"].as_str().is_some_and(|text| text.contains("HTTP 500")), "{failed}");
    assert_eq!(failed["command"], "outboxd alerts test slack");
    assert!(slack.received().len() >= 3);
    let listed = scene.binary.run(&["alerts", "list"]).await;
    assert!(listed.stdout.contains("channel_failed/slack") && listed.stdout.contains("HTTP 500: no"), "{}", listed.stdout);

    let missed = slack.received().len();
    slack.answer_with(|_| Answer::ok().body("ok"));
    let received = slack.wait_for(missed + 1).await;
    assert!(received[missed].json()["text"].as_str().is_some_and(|text| text.contains("1 dead letter")));
    ops.wait_until("the channel works again", told("resolved OutboxChannelFailed/slack")).await;
    let about_itself = |received: &crate::support::Received| received.json().to_string().contains("alert channel failed");
    assert!(!slack.received().iter().any(about_itself), "nobody is told of their own trouble");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_told_and_its_return_too() {
    let ops = Receiver::start().await;
    let database = TestDatabase::create().await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let alerts = format!("{QUICK}database_for = \"1s\"\n{}", webhook("ops", &ops));
    let scene = Scene::at(database, &url, &["billing"], &alerts).await;
    let relay = scene.start().await;
    proxy.cut();

    let received = ops.wait_for(1).await;
    assert_eq!(all_told(&received), ["firing OutboxDatabase"]);
    assert_eq!(received[0].json()["alerts"][0]["annotations"]["command"], "outboxd check --connect");
    proxy.heal();
    let received = ops.wait_for(2).await;
    assert_eq!(all_told(&received), ["firing OutboxDatabase", "resolved OutboxDatabase"]);
    scene.wait_for("key = 'database' and status = 'resolved'").await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
    assert_eq!(ops.received().len(), 2, "{:?}", all_told(&ops.received()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_no_relay_serves_is_told_until_it_is_forgotten() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}not_polling_for = \"1s\"\n{}", webhook("ops", &ops))).await;
    let sql =
        "insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('left-behind', 'webhook', '3:3:', 0, 0)";
    scene.database.execute(sql).await;
    let _relay = scene.start().await;

    let received = ops.wait_for(1).await;
    assert_eq!(all_told(&received), ["firing OutboxRelayNotPolling/left-behind"]);
    let forgotten = scene.binary.run(&["handlers", "forget", "left-behind", "--yes"]).await;
    assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
    let received = ops.wait_for(2).await;
    assert_eq!(all_told(&received).last().map(String::as_str), Some("resolved OutboxRelayNotPolling/left-behind"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_handler_and_a_long_pause_are_told() {
    let ops = Receiver::start().await;
    let scene = Scene::new(&["billing"], &format!("{QUICK}paused_for = \"1s\"\n{}", webhook("ops", &ops))).await;
    scene.receiver.answer_with(|_| Answer::status(401));
    let _relay = scene.start().await;
    scene.fail("billing").await;
    let received = ops.wait_for(1).await;
    assert_eq!(all_told(&received), ["firing OutboxCircuitOpen/billing"]);
    let summary = received[0].json()["alerts"][0]["annotations"]["summary"].as_str().map(str::to_owned);
    // With one event to judge by, it is named, and the way out.
    let summary = summary.expect("a summary");
    assert!(summary.starts_with("the circuit is open: unauthorized; event "), "{summary}");
    assert!(summary.contains("outboxd events bury ") && summary.ends_with("; 1 event waits"), "{summary}");

    let paused = scene.binary.run(&["handlers", "pause", "billing", "--because", "they move"]).await;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let received = ops.wait_for(2).await;
    assert_eq!(all_told(&received).last().map(String::as_str), Some("firing OutboxHandlerPaused/billing"));
    let summary = received[1].json()["alerts"][0]["annotations"]["summary"].as_str().map(str::to_owned);
    assert_eq!(summary.as_deref(), Some("the handler is paused: by ann: they move; 1 event waits"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_beats_while_all_is_well_and_only_then() {
    let heart = Receiver::start().await;
    let database = TestDatabase::create().await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let alerts = format!("{QUICK}heartbeat_url = \"{}\"\nheartbeat_interval = \"1s\"\n", heart.url());
    let scene = Scene::at(database, &url, &["billing"], &alerts).await;
    let relay = scene.start().await;
    let beats = heart.wait_for(2).await;
    assert!(beats.iter().all(|beat| beat.request.method == "GET"));

    proxy.cut();
    relay.wait_for_output("could not look after the alerts").await;
    let before = heart.received().len();
    relay.wait_for_output("could not renew the leases").await;
    // One may have been on its way when the database went.
    assert!(heart.received().len() <= before + 1);
    proxy.heal();
    eventually("it beats again", || async { (heart.received().len() > before + 1).then_some(()) }).await;
}
