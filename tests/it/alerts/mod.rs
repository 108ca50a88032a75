//! Alerts end to end: a relay whose receiver refuses events, and what the channels get of it. The channels are real where there is a
//! server to be had (Alertmanager, a mail server); Slack and PagerDuty are played by the receiver with the codes they document.

mod alertmanager;
mod lives;
mod mail;
mod people;
mod trouble;

use outboxd::handlers::verify;
use outboxd::settings::Secret;
use serde_json::{Value, json};

use crate::support::{Answer, Binary, NewRow, Received, Receiver, Running, TestDatabase, eventually};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Looks and tells often enough for a test.
const QUICK: &str = "[alerts]\ninterval = \"150ms\"\ngroup_wait = \"200ms\"\n";

/// An outbox, a receiver that refuses every event for good, and a relay that tells of it.
struct Scene {
    database: TestDatabase,
    receiver: Receiver,
    binary: Binary,
}

impl Scene {
    /// With handlers of these names, and these settings of the alerts.
    async fn new(handlers: &[&str], alerts: &str) -> Self {
        let database = TestDatabase::create().await;
        let url = database.url().to_owned();
        Self::at(database, &url, handlers, alerts).await
    }

    /// The relay reaches the database by this address.
    async fn at(database: TestDatabase, url: &str, handlers: &[&str], alerts: &str) -> Self {
        let receiver = Receiver::answering(|_| Answer::status(400).body("that is not an order")).await;
        let handler = |name: &&str| {
            let events = format!("{name}.*");
            format!("[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nevents = [\"{events}\"]\nurl = \"{}\"\n", receiver.url())
        };
        let handlers: String = handlers.iter().map(handler).collect();
        let binary = Binary::relay(url, &format!("{handlers}{alerts}")).env("OUTBOXD_ACTOR", "ann");
        Self { database, receiver, binary }
    }

    /// Records an event that this handler wants, and its receiver does not.
    async fn fail(&self, handler: &str) -> String {
        self.database.insert_event(NewRow::new(&format!("{handler}.placed")).payload(json!({ "iban": "DE99" }))).await.to_string()
    }

    /// A relay that has looked at least once since it began.
    async fn start(&self) -> Running {
        let epoch = self.epoch().await;
        let running = self.binary.spawn(&["run"]);
        eventually("the relay looks after the alerts", || async { (self.epoch().await > epoch).then_some(()) }).await;
        // Every look renews the lease, and so does reading what the last owner left.
        let mut renewed = std::collections::HashSet::new();
        while renewed.len() < 4 {
            let last = self.lease().await;
            renewed.insert(last.clone());
            eventually("the lease is renewed", || async { (self.lease().await != last).then_some(()) }).await;
        }
        running
    }

    async fn epoch(&self) -> i64 {
        sqlx::query_scalar("select coalesce((select epoch from alert_lease), 0)")
            .fetch_one(self.database.pool())
            .await
            .expect("one row")
    }

    async fn lease(&self) -> String {
        let lease = sqlx::query_scalar("select coalesce((select lease_until::text from alert_lease), '')");
        lease.fetch_one(self.database.pool()).await.expect("one row")
    }

    /// Waits until an alert is as it should be.
    async fn wait_for(&self, condition: &str) {
        let what = format!("alerts where {condition}");
        eventually(&what, || async { (self.database.count(&what).await > 0).then_some(()) }).await;
    }

    /// Waits until the relay has stored that it told this channel: from then on a successor knows.
    async fn wait_until_noted(&self, channel: &str) {
        let what = format!("alert_notices where channel = '{channel}' and is_firing");
        eventually(&what, || async { (self.database.count(&what).await > 0).then_some(()) }).await;
    }

    /// A person decides on all dead letters.
    async fn discard(&self) {
        let done = self.binary.run(&["dead-letters", "discard", "--handler", "billing", "--because", "x", "--yes"]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

/// A channel that posts to this receiver.
fn webhook(name: &str, receiver: &Receiver) -> String {
    format!("[[alerts.channels]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\nsecrets = [\"{SECRET}\"]\n", receiver.url())
}

/// What a post says: `firing OutboxDeadLetters/billing` per alert.
fn told(received: &Received) -> Vec<String> {
    let one = |alert: &Value| {
        let labels = &alert["labels"];
        let subject = labels["handler"].as_str().or(labels["channel"].as_str());
        let subject = subject.map(|subject| format!("/{subject}")).unwrap_or_default();
        format!("{} {}{subject}", alert["status"].as_str().unwrap_or("?"), labels["alertname"].as_str().unwrap_or("?"))
    };
    let mut lines: Vec<String> = received.json()["alerts"].as_array().expect("alerts").iter().map(one).collect();
    lines.sort();
    lines
}

fn all_told(received: &[Received]) -> Vec<String> {
    received.iter().flat_map(told).collect()
}

fn assert_signed(received: &Received) {
    let timestamp = received.header("webhook-timestamp").and_then(|text| text.parse().ok()).expect("a timestamp");
    let signature = received.header("webhook-signature").expect("a signature");
    assert!(verify(&[Secret::new(SECRET)], &received.id, timestamp, received.body(), signature));
}
