//! The kind `exec` in the built relay: what codes mean for the ledger, what is left when the relay stops or is killed, and that the
//! workers in the documents work.

use std::path::{Path, PathBuf};

use outboxd::app;
use outboxd::config::ProcessEnvironment;
use outboxd::domain::{Notification, Outcome, Verdict};
use outboxd::handlers::Built;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Binary, NewRow, Running, TestDatabase, eventually, get};

/// A folder that scripts are started in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the folder is ours");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// An entry that starts a script of this folder.
    fn entry(&self, program: &str, script: &str, settings: &str) -> String {
        format!(
            "[[handlers]]\nname = \"ledger\"\nkind = \"exec\"\ncommand = [\"{program}\", \"{}\"]\nworking_directory = \"{}\"\n{settings}\n",
            self.path(script).display(),
            self.0.path().display()
        )
    }

    async fn wait_for_lines(&self, name: &str, count: usize) -> Vec<String> {
        eventually(&format!("{name} has {count} lines"), || async {
            let text = self.text(name);
            (text.lines().count() >= count && text.ends_with('\n')).then(|| text.lines().map(str::to_owned).collect())
        })
        .await
    }
}

/// Whether the process does anything; a dead one that nobody has waited for does not.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn wait_until_gone(pid: &str) {
    eventually(&format!("process {pid} is gone"), || async { (!lives(pid)).then_some(()) }).await;
}

fn moved(key: &str, event_type: &str) -> NewRow {
    NewRow::new(event_type).of("item", key).payload(json!({ "sku": "A1", "quantity": -2 }))
}

async fn wait_for_state(database: &TestDatabase, state: &str, count: i64) {
    eventually(&format!("{count} {state}"), || async {
        (database.count(&format!("deliveries where state = '{state}'")).await == count).then_some(())
    })
    .await;
}

/// What the relay says of its attempts with this outcome.
async fn attempts(address: &str, outcome: &str) -> Option<f64> {
    let text = get(address, "/metrics").await.ok()?.1;
    let series = format!("outboxd_deliveries_total{{handler=\"ledger\",kind=\"exec\",outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series))?.parse().ok()
}

#[tokio::test]
async fn exit_codes_are_what_the_ledger_says() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    place.write(
        "on-stock.sh",
        "case $OUTBOXD_EVENT_TYPE in\n\
         stock.bad) echo 'no sku' >&2; exit 65;;\n\
         stock.busy) [ -e came ] || { touch came; exit 69; };;\n\
         esac\ncat >> got",
    );
    let entry = place.entry("sh", "on-stock.sh", "retry = { max_attempts = 1 }");
    let (relay, address) = Binary::relay_with_http(database.url(), &entry).serve().await;
    database.insert_events([moved("1", "stock.moved"), moved("2", "stock.bad"), moved("3", "stock.busy")]).await;
    wait_for_state(&database, "delivered", 2).await;
    wait_for_state(&database, "dead", 1).await;

    assert_eq!(database.count("deliveries where state = 'dead' and reason = 'refused' and status = 65").await, 1);
    assert_eq!(database.count("attempts where detail = 'exit code 65: no sku'").await, 1);
    assert!(place.text("got").lines().all(|line| line.contains("\"payload\":{\"sku\": \"A1\", \"quantity\": -2}}")));
    for outcome in ["back_pressure", "permanent"] {
        assert_eq!(attempts(&address, outcome).await, Some(1.0), "{outcome}");
    }
    stop(relay).await;
}

async fn stop(relay: Running) {
    relay.terminate();
    let finished = relay.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[tokio::test]
async fn a_relay_that_stops_lets_its_workers_say_goodbye() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    place.write(
        "worker.sh",
        "while read -r line; do id=${line#'{\"id\":\"'}; id=${id%%'\"'*}; echo $$ >> pids\n\
         printf '{\"id\":\"%s\",\"status\":\"delivered\"}\\n' \"$id\"; done; sleep 0.2; echo bye >> ends",
    );
    let relay = Binary::relay(database.url(), &place.entry("sh", "worker.sh", "mode = \"worker\"")).spawn(&["run"]);
    database.insert_event(moved("1", "stock.moved")).await;
    wait_for_state(&database, "delivered", 1).await;
    stop(relay).await;
    assert_eq!(place.text("ends"), "bye\n", "the relay waits for it, a fifth of a second here");
    wait_until_gone(place.text("pids").trim()).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_relay_that_is_killed_leaves_no_program() {
    for settings in ["timeout = \"29s\"", "timeout = \"29s\"\nmode = \"worker\""] {
        let (database, place) = (TestDatabase::create().await, Place::new());
        // It does not read the end of its input, and it does not end when it is asked to.
        place.write("deaf.sh", "trap '' TERM HUP; echo $$ >> pids; while :; do sleep 0.05; done");
        let relay = Binary::relay(database.url(), &place.entry("sh", "deaf.sh", settings)).spawn(&["run"]);
        database.insert_event(moved("1", "stock.moved")).await;
        let pids = place.wait_for_lines("pids", 1).await;
        assert!(lives(&pids[0]));
        relay.kill().await;
        wait_until_gone(&pids[0]).await;
    }
}

// ---- the workers of docs/handlers.md

/// The block of the page whose first line is exactly this.
fn block(language: &str) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/handlers.md")).expect("the page is there");
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("a block {language}"));
    rest.split_once("```").expect("it is closed").0.to_owned()
}

async fn deliver(entry: &str, events: &[Notification]) -> Vec<Verdict> {
    let config = format!("[database]\nurl = \"postgres://nobody@127.0.0.1/none\"\n{entry}");
    let loaded =
        app::parse(&config, &ProcessEnvironment::of_file(Path::new("/x"))).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let Built::Handler(handler) = &loaded.handlers[0].1 else { panic!("it is no function") };
    let mut verdicts = Vec::new();
    for event in events {
        verdicts.push(handler.deliver(event).await);
    }
    verdicts
}

fn event(number: u128, payload: &str) -> Notification {
    Notification { id: uuid::Uuid::from_u128(number), ..Notification::sample("stock.moved", payload) }
}

#[tokio::test]
async fn the_documented_worker_in_python_works() {
    let place = Place::new();
    place.write("worker.py", &block("python worker"));
    let move_ = "{\"sku\": \"A1\", \"quantity\": -2}";
    let events = [event(1, move_), event(1, move_), event(2, "{\"sku\": \"A1\"}"), event(3, "{\"sku\": null, \"quantity\": 1}")];
    let verdicts = deliver(&place.entry("python3", "worker.py", "mode = \"worker\""), &events).await;
    let outcomes: Vec<Outcome> = verdicts.iter().map(|verdict| verdict.outcome).collect();
    assert_eq!(outcomes, [Outcome::Delivered, Outcome::Duplicate, Outcome::Permanent, Outcome::Permanent], "{verdicts:?}");
    assert_eq!(verdicts[2].detail, "KeyError('quantity')");
}

#[tokio::test]
async fn the_documented_worker_in_sh_works() {
    let place = Place::new();
    place.write("worker.sh", &block("sh worker"));
    let payload = r#"{"text": "a \"quoted\" \\ thing\nand \u00e9"}"#;
    let verdicts = deliver(&place.entry("sh", "worker.sh", "mode = \"worker\""), &[event(1, payload), event(2, payload)]).await;
    assert!(verdicts.iter().all(Verdict::is_delivered), "{verdicts:?}");
    let lines = place.wait_for_lines("events.ndjson", 2).await;
    for line in lines {
        let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(told["payload"], serde_json::from_str::<serde_json::Value>(payload).expect("JSON"));
    }
}

// ---- what a person reads

#[tokio::test]
async fn a_person_reads_what_is_wrong_before_the_first_event() {
    let place = Place::new();
    place.write("deny.sh", "echo \"wrong key $KEY\" >&2; exit 77");
    let database = "postgres://nobody@127.0.0.1/none";
    let typo = "[[handlers]]\nname = \"ledger\"\nkind = \"exec\"\ncommand = [\"pyhton3\", \"x\"]";
    let checked = Binary::relay(database, typo).run(&["check"]).await;
    assert_eq!(checked.code, Some(64), "{checked:?}");
    assert!(checked.stderr.contains("handlers.ledger.command: got \"pyhton3\", which is no program in PATH"), "{checked:?}");

    let entry = place.entry("sh", "deny.sh", "environment = { KEY = \"hunter2\" }");
    let tried = Binary::relay(database, &entry).run(&["handlers", "test", "ledger"]).await;
    assert_eq!(tried.code, Some(1), "{tried:?}");
    assert!(
        tried.stdout.contains("handler_fault, unauthorized") && tried.stdout.contains("exit code 77: wrong key ***"),
        "{tried:?}"
    );
}
