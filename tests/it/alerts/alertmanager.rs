//! A real Alertmanager: it takes what is posted, keeps it while it is told again, groups it, and calls its own receiver.

use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{QUICK, Scene};
use crate::support::{Receiver, eventually, find_program};

/// The server; killed when it is dropped.
struct Alertmanager {
    url: String,
    client: reqwest::Client,
    _process: Child,
    _directory: TempDir,
}

impl Alertmanager {
    /// One that calls this receiver. `None`: it is not installed, and that was said.
    async fn calling(receiver: &Receiver) -> Option<Self> {
        Self::calling_after(receiver, "0s").await
    }

    /// The same, with this `group_wait`.
    async fn calling_after(receiver: &Receiver, group_wait: &str) -> Option<Self> {
        let program = find_program(&["prometheus-alertmanager", "alertmanager"], &["--version"]).await?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            "route:\n  receiver: test\n  group_by: [relay]\n  group_wait: {group_wait}\n  group_interval: 1s\n  repeat_interval: 1h\n\
             receivers:\n- name: test\n  webhook_configs:\n  - url: {}\n    send_resolved: true\n",
            receiver.url()
        );
        let file = directory.path().join("alertmanager.yml");
        std::fs::write(&file, config).expect("the directory is ours");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free").port();
        let url = format!("http://127.0.0.1:{port}");
        let process = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it was just found");
        let server = Self { url, client: client(), _process: process, _directory: directory };
        eventually("Alertmanager is ready", || async {
            server.client.get(format!("{}/-/ready", server.url)).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
        Some(server)
    }

    async fn alerts(&self) -> Vec<Value> {
        let response = self.client.get(format!("{}/api/v2/alerts", self.url)).send().await.expect("it answers");
        let body = response.bytes().await.expect("an answer has a body");
        serde_json::from_slice(&body).expect("a list of alerts")
    }
}

fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Status and handler of every alert in what Alertmanager sends to its receiver.
fn told(body: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut told: Vec<_> = body["alerts"]
        .as_array()
        .expect("alerts")
        .iter()
        .map(|alert| (text(&alert["status"]), text(&alert["labels"]["handler"])))
        .collect();
    told.sort();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_takes_groups_and_resolves_what_is_posted() {
    let people = Receiver::start().await;
    let Some(server) = Alertmanager::calling(&people).await else { return };
    let channel = format!(
        "[[alerts.channels]]\nname = \"am\"\nkind = \"alertmanager\"\nurls = [\"{}\"]\nlabels = {{ team = \"payments\" }}\n",
        server.url
    );
    let alerts = format!("[alerts]\ninterval = \"150ms\"\ngroup_wait = \"2s\"\n{channel}");
    let scene = Scene::new(&["billing", "stock"], &alerts).await;
    scene.fail("billing").await;
    scene.fail("stock").await;
    let _relay = scene.start().await;

    let received = people.wait_until("a group of two", |all| all.iter().any(|one| told(&one.json()).len() == 2)).await;
    let group = received.last().expect("there is one").json();
    let firing = |handler: &str| ("firing".to_owned(), handler.to_owned());
    assert_eq!(told(&group), [firing("billing"), firing("stock")]);
    assert_eq!(group["commonLabels"]["team"], "payments");
    assert_eq!(group["commonLabels"]["alertname"], "OutboxDeadLetters");
    let held = server.alerts().await;
    assert_eq!(held.len(), 2);
    for alert in &held {
        let (start, end) = (alert["startsAt"].as_str().expect("a start"), alert["endsAt"].as_str().expect("an end"));
        assert!(start < end && alert["status"]["state"] == "active", "{alert}");
        assert!(alert["annotations"]["description"].as_str().is_some_and(|text| text.contains("that is not an order")), "{alert}");
    }

    scene.discard().await;
    let over = |received: &[crate::support::Received]| {
        received.iter().any(|one| told(&one.json()).contains(&("resolved".to_owned(), "billing".to_owned())))
    };
    let received = people.wait_until("billing is over", over).await;
    let still = received.iter().rev().find(|one| one.json()["status"] == "firing").expect("stock fires").json();
    assert!(told(&still).contains(&firing("stock")), "{still}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_keeps_an_alert_while_the_relay_is_replaced() {
    let people = Receiver::start().await;
    let Some(server) = Alertmanager::calling(&people).await else { return };
    let channel = format!("[[alerts.channels]]\nname = \"am\"\nkind = \"alertmanager\"\nurls = [\"{}\"]\n", server.url);
    let scene = Scene::new(&["billing"], &format!("{QUICK}{channel}")).await;
    let first = scene.start().await;
    scene.fail("billing").await;
    people.wait_for(1).await;
    let before = server.alerts().await;
    scene.wait_until_noted("am").await;
    first.kill().await;

    // As if a minute had passed: the next owner posts it again, with a later end, and Alertmanager calls nobody for it.
    scene.database.execute("update alert_notices set sent_at = sent_at - interval '2 minutes' where channel = 'am'").await;
    let _second = scene.start().await;
    let end = |alerts: &[Value]| alerts.first().and_then(|alert| alert["endsAt"].as_str().map(str::to_owned));
    eventually("the end has moved", || async { (end(&server.alerts().await) > end(&before)).then_some(()) }).await;
    assert_eq!(server.alerts().await[0]["fingerprint"], before[0]["fingerprint"], "it is the same alert");
    scene.discard().await;
    let received = people.wait_until("it is over", |all| all.iter().any(|one| one.json()["status"] == "resolved")).await;
    let statuses: Vec<Value> = received.iter().map(|one| one.json()["status"].clone()).collect();
    assert_eq!(statuses, ["firing", "resolved"]);
}

// Seen: fired and resolved at once, it was gone before `group_wait` had passed: "sent", and nobody was notified.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_alert_fires_until_people_are_notified_and_the_command_says_what_alertmanager_has() {
    let people = Receiver::start().await;
    let Some(server) = Alertmanager::calling_after(&people, "2s").await else { return };
    let channel = format!("[[alerts.channels]]\nname = \"am\"\nkind = \"alertmanager\"\nurls = [\"{}\"]\n", server.url);
    let config = format!("[database]\nurl = \"postgres://nobody@127.0.0.1:1/x\"\n{channel}");
    let trial = crate::support::Binary::with_config(&config).spawn(&["alerts", "test", "am", "--json"]);
    let told = trial.wait_for_output("has it: ").await;
    assert!(told.contains("active") && told.contains("for the receiver test"), "{told}");
    let received = people.wait_for(1).await;
    assert_eq!(received[0].json()["alerts"][0]["labels"]["handler"], "this-is-a-test");
    trial.interrupt();
    let finished = trial.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("\"receiver_says\"") && finished.stderr.contains("fires for 1m"), "{finished:?}");
    people.wait_until("it is over", |all| all.iter().any(|one| one.json()["status"] == "resolved")).await;

    let silence = serde_json::json!({
        "matchers": [{ "name": "service", "value": "outboxd", "isRegex": false }], "createdBy": "ada", "comment": "moving",
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
    });
    let post = server.client.post(format!("{}/api/v2/silences", server.url)).header("content-type", "application/json");
    assert!(post.body(silence.to_string()).send().await.expect("it answers").status().is_success());
    let silenced = crate::support::Binary::with_config(&config).run(&["alerts", "test", "am", "--for", "3s"]).await;
    assert!(silenced.stderr.contains("no notification is sent, because it is silenced by"), "{silenced:?}");
}
