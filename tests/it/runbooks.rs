//! Every command of `docs/operations.md`, executed as it stands there, on an outbox in which there is something for it to do.

use clap::Parser;
use outboxd::cli::Cli;
use outboxd::store::{self, NewReplay};
use serde_json::json;
use uuid::Uuid;

use crate::docs::{commands, words};
use crate::support::{Answer, Binary, NewRow, Received, Receiver, Running, TestDatabase, eventually};

/// Two handlers whose receiver refused four orders, and does not manage order 42 at all.
struct Scene {
    database: TestDatabase,
    binary: Binary,
    relay: Option<Running>,
    _receiver: Receiver,
}

impl Scene {
    async fn prepare() -> Self {
        let (database, receiver) = (TestDatabase::create().await, Receiver::answering(broken).await);
        let handler = |name: &str| {
            format!("[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n", receiver.url())
        };
        let channel = format!("[[alerts.channels]]\nname = \"slack\"\nkind = \"slack\"\nurl = \"{}\"\n", receiver.url());
        let binary =
            Binary::relay(database.url(), &(handler("billing") + &handler("search") + &channel)).env("OUTBOXD_ACTOR", "ada");
        let relay = binary.spawn(&["run"]);
        relay.wait_for_output("relay started").await;
        database.insert_events((1..=4).map(|number| NewRow::new("order.placed").of("order", number))).await;
        database
            .insert_events((1..=2).map(|_| NewRow::new("order.placed").of("order", 42).payload(json!({ "is_stuck": true }))))
            .await;
        eventually("four are dead letters of both, and one blocks its key", || async {
            let dead = database.count("deliveries where state = 'dead'").await;
            (dead == 8 && database.count("deliveries where state in ('retrying', 'waiting')").await == 4).then_some(())
        })
        .await;
        receiver.answer_with(mended);
        Self { database, binary, relay: Some(relay), _receiver: receiver }
    }

    async fn stop_relay(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.terminate();
            relay.finish().await;
        }
    }

    async fn text(&self, sql: &'static str) -> String {
        sqlx::query_scalar(sql).fetch_one(self.database.pool()).await.expect("it is there")
    }

    /// What `<id>` stands for in a command.
    async fn id(&self, command: &[String]) -> String {
        match command[1].as_str() {
            "replays" => {
                let replay = NewReplay { id: Uuid::new_v4(), rate: Some(0.01), ..NewReplay::default() };
                store::start_replay(self.database.pool(), &replay, store::Actor::cli("ada")).await.expect("the replay is frozen");
                if command[2] == "resume" {
                    store::cancel_replay(self.database.pool(), replay.id, store::Actor::cli("ada"), None).await.expect("it runs");
                }
                replay.id.to_string()
            }
            "events" if command[2] == "bury" => {
                self.text("select e.id::text from events e join deliveries d using (seq) where d.state = 'waiting' limit 1").await
            }
            _ => self.text("select e.id::text from events e join deliveries d using (seq) where d.state = 'dead' limit 1").await,
        }
    }

    async fn group(&self) -> String {
        let listed = self.binary.run(&["dead-letters", "groups", "--handler", "billing", "--json"]).await;
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|error| panic!("{error}: {listed:?}"));
        listed["groups"][0]["group"].as_str().expect("there is one").to_owned()
    }
}

fn is_stuck(received: &Received) -> bool {
    received.body().windows(8).any(|text| text == b"is_stuck")
}

fn broken(received: &Received) -> Answer {
    if is_stuck(received) { Answer::status(500) } else { Answer::status(422).body("order 17 not known") }
}

fn mended(received: &Received) -> Answer {
    if is_stuck(received) { Answer::status(500) } else { Answer::ok() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbooks_does_what_it_is_there_for() {
    let lines: Vec<String> = commands("docs/operations.md");
    assert!(lines.len() > 30, "{lines:?}");
    // A few at a time: each has an outbox and a relay of its own.
    let mut failures = Vec::new();
    for some in lines.chunks(4) {
        failures.extend(futures_util::future::join_all(some.iter().map(|line| execute(line))).await.into_iter().flatten());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Executes one; gives what went wrong.
async fn execute(line: &str) -> Option<String> {
    let mut scene = Scene::prepare().await;
    let mut command = words(line);
    let (id, group) = (scene.id(&command).await, scene.group().await);
    let nil = Uuid::nil().to_string();
    for word in &mut command {
        *word = if *word == nil { id.clone() } else { word.replace("3f9a1c20b7d4e655", &group) };
    }
    // A person is asked; nobody is here to answer.
    let answered = [command.clone(), vec!["--yes".to_owned()]].concat();
    let is_asked = !command.contains(&"--dry-run".to_owned()) && Cli::try_parse_from(&answered).is_ok();
    let arguments: Vec<&str> = (if is_asked { &answered } else { &command }).iter().skip(1).map(String::as_str).collect();
    match arguments[0] {
        "rebase" => scene.database.execute("update incarnation set system_identifier = 42").await,
        "streams" => scene.database.execute("select append('account', 'ann', 'any', '[{\"type\": \"x\", \"payload\": {}}]')").await,
        // What is worthless was recorded before the time that is given.
        "handlers" if arguments[1] == "start-from" => {
            scene.database.execute("update events set occurred_at = occurred_at - interval '1 day'").await;
        }
        _ => {}
    }
    if ["rebase", "handlers forget", "handlers rename", "handlers repartition"]
        .iter()
        .any(|start| arguments.join(" ").starts_with(start))
    {
        scene.stop_relay().await;
    }
    if arguments == ["run"] {
        let other = scene.binary.spawn(&arguments);
        other.wait_for_output("relay started").await;
        other.terminate();
        let finished = other.finish().await;
        return (finished.code != Some(0)).then(|| format!("{line}: {finished:?}"));
    }
    let finished = scene.binary.run(&arguments).await;
    // A test server is not a careful one, and the doctor says so; there are dead letters, and the status says so.
    let is_well = match arguments[0] {
        "doctor" | "status" => finished.code.is_some_and(|code| code <= 2) && !finished.stdout.is_empty(),
        _ => finished.code == Some(0),
    };
    scene.stop_relay().await;
    (!is_well).then(|| format!("{line}: {finished:?}"))
}
