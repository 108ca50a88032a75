//! The alerts of deploy/prometheus with a real Prometheus and a real Alertmanager: each is raised by real trouble, its runbook in
//! docs/operations.md is followed, and the person who was called is told that it is over.

use std::process::Stdio;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::prometheus::Prometheus;
use crate::support::{Answer, Binary, Finished, NewRow, Receiver, Running, TestDatabase, eventually, find_program, free_port, get};

/// The rules with seconds for minutes, so that a person is called and left in peace within a test. The expressions stay.
fn quick_rules(directory: &TempDir) -> std::path::PathBuf {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/outboxd.rules.yml")).expect("it is there");
    let quick: String = text
        .lines()
        .map(|line| match line.trim_start().split_once(": ") {
            Some(("for", _)) => "        for: 1s\n".to_owned(),
            Some(("keep_firing_for", _)) => "        keep_firing_for: 1s\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    let quick = quick
        .replace("[15m]", "[10s]")
        .replace("[5m]", "[10s]")
        .replace("age_seconds:max > 300", "age_seconds:max > 2")
        .replace("timestamp_seconds > 60 and", "timestamp_seconds > 3 and");
    let path = directory.path().join("rules.yml");
    std::fs::write(&path, quick).expect("the directory is ours");
    path
}

/// An Alertmanager that calls this receiver of each change.
async fn alertmanager(directory: &TempDir, people: &Receiver) -> Option<(String, Child)> {
    let program = find_program(&["prometheus-alertmanager", "alertmanager"], &["--version"]).await?;
    let config = format!(
        "route:\n  receiver: test\n  group_by: [alertname, relay, handler]\n  group_wait: 0s\n  group_interval: 1s\n  repeat_interval: 1h\n\
         receivers:\n- name: test\n  webhook_configs:\n  - url: {}\n    send_resolved: true\n",
        people.url()
    );
    std::fs::write(directory.path().join("alertmanager.yml"), config).expect("the directory is ours");
    let address = format!("127.0.0.1:{}", free_port());
    let process = Command::new(program)
        .current_dir(directory.path())
        .args(["--config.file=alertmanager.yml", "--storage.path=am", "--cluster.listen-address="])
        .arg(format!("--web.listen-address={address}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it was just found");
    eventually("Alertmanager is ready", || async { get(&address, "/-/ready").await.ok().filter(|(status, _)| *status == 200) })
        .await;
    Some((address, process))
}

/// What a person was called for last: `firing` or `resolved`.
fn last_call(people: &Receiver, alert: &str, handler: &str) -> Option<String> {
    let received = people.received();
    let alerts = received.iter().filter_map(|one| one.json()["alerts"].as_array().cloned()).flatten();
    let of_it =
        |one: &Value| one["labels"]["alertname"] == alert && one["labels"]["handler"].as_str().unwrap_or_default() == handler;
    alerts.rev().find(of_it).and_then(|one| one["status"].as_str().map(str::to_owned))
}

struct Scene {
    database: TestDatabase,
    binary: Binary,
    people: Receiver,
}

impl Scene {
    async fn is_called(&self, alert: &str, handler: &str) {
        eventually(&format!("{alert} of {handler:?} calls a person"), || async {
            (last_call(&self.people, alert, handler).as_deref() == Some("firing")).then_some(())
        })
        .await;
    }

    async fn is_left_in_peace(&self, alert: &str, handler: &str) {
        eventually(&format!("{alert} of {handler:?} is over"), || async {
            (last_call(&self.people, alert, handler).as_deref() == Some("resolved")).then_some(())
        })
        .await;
    }

    async fn outboxd(&self, command: &str) -> Finished {
        let arguments: Vec<&str> = command.split(' ').collect();
        let finished = self.binary.run(&arguments).await;
        assert_eq!(finished.code, Some(0), "{command}: {finished:?}");
        finished
    }

    /// Starts the relay and waits for its metrics, on the port that Prometheus knows.
    async fn start(&self, address: &str) -> Running {
        let relay = self.binary.spawn(&["run"]);
        relay.wait_for_output("relay started").await;
        eventually("the relay serves its metrics", || async { get(address, "/metrics").await.ok() }).await;
        relay
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_runbook_of_an_alert_is_told_that_it_is_over() {
    let Some(program) = find_program(&["prometheus"], &["--version"]).await else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let people = Receiver::start().await;
    let Some((alerts_to, _alertmanager)) = alertmanager(&directory, &people).await else { return };
    let (refused, unauthorized, behind) = (
        Receiver::answering(|_| Answer::status(422)).await,
        Receiver::answering(|_| Answer::status(401)).await,
        Receiver::answering(|_| Answer::status(500)).await,
    );
    let fine = Receiver::start().await;
    let handler = |name: &str, receiver: &Receiver, more: &str| {
        format!("[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n{more}\n", receiver.url())
    };
    let retry = "retry = { base = \"100ms\", factor = 1.0, max_delay = \"100ms\", max_attempts = 1000 }\ncircuit = { failure_rate = 1.0, minimum = 1000 }";
    let handlers = [
        handler("refused", &refused, ""),
        // No probe goes out by itself while the test runs.
        handler("unauthorized", &unauthorized, "circuit = { first_probe = \"1h\", max_probe = \"1h\" }"),
        handler("behind", &behind, retry),
        handler("held", &fine, ""),
    ]
    .concat();
    let database = TestDatabase::create().await;
    let address = format!("127.0.0.1:{}", free_port());
    let config = Binary::relay_config(database.url(), &handlers).replace("listen = \"\"", &format!("listen = \"{address}\""));
    let scene = Scene { database, binary: Binary::with_config(&config), people };
    let relay = scene.start(&address).await;
    let _prometheus = Prometheus::start_with(&program, &quick_rules(&directory), &[&address], Some(&alerts_to)).await;

    scene.database.insert_events((0..8).map(|number| NewRow::new("order.placed").of("order", number))).await;
    scene.outboxd("handlers pause held --because moving").await;
    scene.is_called("OutboxdDeadLetters", "refused").await;
    scene.is_called("OutboxdCircuitOpen", "unauthorized").await;
    scene.is_called("OutboxdHandlerPausedTooLong", "held").await;
    scene.is_called("OutboxdBacklogOld", "behind").await;
    // What a refused reload and a handler that fails have in common: nothing is stored of them, only the metric tells.
    scene.binary.rewrite(&config.replace("[relay]", "[relay]\nno_such_key = 1"));
    relay.hang_up();
    scene.is_called("OutboxdReloadRefused", "").await;

    refused.answer_with(|_| Answer::ok());
    scene.outboxd("replay --handler refused --yes").await;
    unauthorized.answer_with(|_| Answer::ok());
    scene.binary.rewrite(&config);
    scene.outboxd("handlers circuit close unauthorized").await;
    scene.outboxd("handlers resume held").await;
    behind.answer_with(|_| Answer::ok());
    scene.outboxd("reload").await;
    scene.is_left_in_peace("OutboxdDeadLetters", "refused").await;
    scene.is_left_in_peace("OutboxdCircuitOpen", "unauthorized").await;
    scene.is_left_in_peace("OutboxdHandlerPausedTooLong", "held").await;
    scene.is_left_in_peace("OutboxdBacklogOld", "behind").await;
    scene.is_left_in_peace("OutboxdReloadRefused", "").await;

    relay.terminate();
    relay.finish().await;
    scene.is_called("OutboxdDown", "").await;
    let relay = scene.start(&address).await;
    scene.is_left_in_peace("OutboxdDown", "").await;

    // Over is over: the figures did not come back with the next look of the relay, and nobody was called a second time.
    let calls = scene.people.received();
    for (alert, handler) in
        [("OutboxdCircuitOpen", "unauthorized"), ("OutboxdHandlerPausedTooLong", "held"), ("OutboxdDeadLetters", "refused")]
    {
        assert_eq!(last_call(&scene.people, alert, handler).as_deref(), Some("resolved"), "{alert}");
    }
    let lost = |one: &crate::support::Received| one.json()["groupLabels"]["alertname"] == "OutboxdLeasesLost";
    assert!(!calls.iter().any(lost), "a reload is no loss of leases");
    relay.terminate();
    relay.finish().await;
}

/// The alerts about the relay itself and its database: each ends when what its runbook says has been done, and no sooner.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_a_stuck_handler_and_a_stopped_relay_call_a_person_and_end() {
    let Some(program) = find_program(&["prometheus"], &["--version"]).await else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let people = Receiver::start().await;
    let Some((alerts_to, _alertmanager)) = alertmanager(&directory, &people).await else { return };
    let (failing, fine) = (Receiver::answering(|_| Answer::status(500)).await, Receiver::start().await);
    let handler = |name: &str, receiver: &Receiver| {
        format!(
            "[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n\
             retry = {{ base = \"100ms\", factor = 1.0, max_delay = \"100ms\", max_attempts = 1000 }}\n\
             circuit = {{ failure_rate = 1.0, minimum = 1000 }}\n",
            receiver.url()
        )
    };
    let handlers = handler("failing", &failing) + &handler("fine", &fine);
    let database = TestDatabase::create().await;
    let address = format!("127.0.0.1:{}", free_port());
    let config = Binary::relay_config(database.url(), &handlers).replace("listen = \"\"", &format!("listen = \"{address}\""));
    let scene = Scene { database, binary: Binary::with_config(&config), people };
    let relay = scene.start(&address).await;
    let _prometheus = Prometheus::start_with(&program, &quick_rules(&directory), &[&address], Some(&alerts_to)).await;

    scene.database.insert_events((0..20).map(|number| NewRow::new("order.placed").of("order", number))).await;
    scene.is_called("OutboxdHandlerFailing", "failing").await;
    failing.answer_with(|_| Answer::ok());
    scene.is_left_in_peace("OutboxdHandlerFailing", "failing").await;

    // Nobody gets in: the relay is not ready, fails at the database, and loses what it owns.
    let mut url: url::Url = scene.database.url().parse().expect("an address");
    let name = url.path().trim_start_matches('/').to_owned();
    url.set_path("/postgres");
    let mut elsewhere = PgConnection::connect(url.as_str()).await.expect("the server is there");
    let close = format!(
        "alter database {name} with allow_connections false;
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    );
    sqlx::raw_sql(AssertSqlSafe(close)).execute(&mut elsewhere).await.expect("a superuser may");
    for alert in ["OutboxdNotReady", "OutboxdDatabaseErrors", "OutboxdNoOwner"] {
        scene.is_called(alert, "").await;
    }
    let open = format!("alter database {name} with allow_connections true");
    sqlx::raw_sql(AssertSqlSafe(open)).execute(&mut elsewhere).await.expect("a superuser may");
    for alert in ["OutboxdNotReady", "OutboxdDatabaseErrors", "OutboxdNoOwner"] {
        scene.is_left_in_peace(alert, "").await;
    }

    // Nothing can be recorded.
    let rename = |from: &str, to: &str| format!("alter table outbox.{from} rename to {to}");
    sqlx::raw_sql(AssertSqlSafe(rename("deliveries", "gone"))).execute(scene.database.pool()).await.expect("it is there");
    scene.database.insert_event(NewRow::new("order.placed").of("order", 100)).await;
    scene.is_called("OutboxdHandlerStuck", "fine").await;
    sqlx::raw_sql(AssertSqlSafe(rename("gone", "deliveries"))).execute(scene.database.pool()).await.expect("it is there");
    scene.is_left_in_peace("OutboxdHandlerStuck", "fine").await;

    relay.terminate();
    relay.finish().await;
    for alert in ["OutboxdRelayGone", "OutboxdInstanceDown"] {
        scene.is_called(alert, "").await;
    }
    let relay = scene.start(&address).await;
    for alert in ["OutboxdRelayGone", "OutboxdInstanceDown"] {
        scene.is_left_in_peace(alert, "").await;
    }
    relay.terminate();
    relay.finish().await;
}

/// The alerts about what a relay works with: the tables it reads and writes, a table it has adopted, a channel it tells people by.
#[tokio::test(flavor = "multi_thread")]
async fn slow_writes_a_log_that_cannot_be_read_a_broken_adoption_and_a_deaf_channel_call_a_person_and_end() {
    let Some(program) = find_program(&["prometheus"], &["--version"]).await else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let people = Receiver::start().await;
    let Some((alerts_to, _alertmanager)) = alertmanager(&directory, &people).await else { return };
    let (refused, deaf) = (Receiver::answering(|_| Answer::status(422)).await, Receiver::answering(|_| Answer::status(500)).await);
    let database = TestDatabase::create().await;
    let table = "create table public.outboxevent (id uuid primary key, aggregatetype varchar(255) not null, aggregateid varchar(255) not null,
                 type varchar(255) not null, payload jsonb)";
    database.execute(table).await;
    let entries = format!(
        "[[handlers]]\nname = \"fine\"\nkind = \"discard\"\nevents = [\"order.*\"]\n\
         [[handlers]]\nname = \"refused\"\nkind = \"webhook\"\nevents = [\"refused\"]\nurl = \"{}\"\negress = \"any\"\n\
         [[adopt]]\ntable = \"public.outboxevent\"\nshape = \"debezium\"\n\
         [alerts]\ninterval = \"1s\"\n\
         [[alerts.channels]]\nname = \"deaf\"\nkind = \"webhook\"\nurl = \"{}\"\n",
        refused.url(),
        deaf.url()
    );
    let address = format!("127.0.0.1:{}", free_port());
    let config = Binary::relay_config(database.url(), &entries).replace("listen = \"\"", &format!("listen = \"{address}\""));
    let scene = Scene { database, binary: Binary::with_config(&config), people };
    scene.outboxd("adopt").await;
    let relay = scene.start(&address).await;
    let _prometheus = Prometheus::start_with(&program, &quick_rules(&directory), &[&address], Some(&alerts_to)).await;
    let execute = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(scene.database.pool()).await.expect("a superuser may");
    };

    // Each statement that records outcomes waits, as behind a lock or a disk.
    execute(
        "create function outbox.slow() returns trigger language plpgsql as 'begin perform pg_sleep(1.5); return null; end';
         create trigger slow before insert on outbox.deliveries for each statement execute function outbox.slow()",
    )
    .await;
    let ordering = async {
        loop {
            scene.database.insert_event(NewRow::new("order.placed")).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let called = scene.is_called("OutboxdFlushSlow", "");
    tokio::select! {
        () = called => {}
        () = ordering => {}
    }
    execute("drop trigger slow on outbox.deliveries").await;
    scene.is_left_in_peace("OutboxdFlushSlow", "").await;

    execute("alter table outbox.events rename to gone").await;
    scene.is_called("OutboxdNotReading", "").await;
    execute("alter table outbox.gone rename to events").await;
    scene.is_left_in_peace("OutboxdNotReading", "").await;

    // Somebody migrates the table, and says so afterwards.
    execute("alter table public.outboxevent rename column aggregateid to aggregate").await;
    scene.is_called("OutboxdAdoptionBroken", "").await;
    let doctor = scene.binary.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("outboxevent"), "{doctor:?}");
    execute("alter table public.outboxevent rename column aggregate to aggregateid").await;
    scene.outboxd("adopt public.outboxevent").await;
    scene.is_left_in_peace("OutboxdAdoptionBroken", "").await;

    // What a person is to be told comes to nobody.
    scene.database.insert_event(NewRow::new("refused")).await;
    scene.is_called("OutboxdAlertChannelFailing", "").await;
    let list = scene.outboxd("alerts list").await;
    assert!(list.stdout.contains("500"), "the runbook says that the error is there: {list:?}");
    deaf.answer_with(|_| Answer::ok());
    scene.outboxd("alerts test deaf").await;
    scene.is_left_in_peace("OutboxdAlertChannelFailing", "").await;
    relay.terminate();
    relay.finish().await;
}
