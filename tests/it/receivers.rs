//! The programs of docs/receivers.md verify a request that a relay has sent, each in its language; Python and JavaScript with the
//! official libraries. Where a language is not installed its test says so and passes, unless OUTBOXD_TEST_REQUIRE_ALL is set.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::process::Command;

use crate::support::{Binary, NewRow, Received, Receiver, TestDatabase, find_program};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example(name: &str) -> PathBuf {
    root().join("examples/receivers").join(name)
}

/// A secret of `outboxd secret`, and a request that was signed with it and with an older one.
async fn signed_request() -> (String, Received) {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let binary = Binary::with_config("");
    let secret = binary.run(&["secret"]).await.stdout.trim().to_owned();
    let older = binary.run(&["secret", "--json"]).await;
    let older: serde_json::Value = serde_json::from_str(&older.stdout).unwrap_or_else(|error| panic!("{error}: {older:?}"));
    std::fs::write(binary.directory().join("secrets"), format!("{secret}\n{}\n", older["secret"].as_str().expect("a text")))
        .expect("the directory is ours");
    let handler = format!(
        "[[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nsecrets_file = \"secrets\"\n",
        receiver.url()
    );
    binary.rewrite(&Binary::relay_config(database.url(), &handler));
    let relay = binary.spawn(&["run"]);
    relay.wait_for_output("relay started").await;
    database.insert_event(NewRow::new("order.placed").of("order", 1).payload(json!({ "name": "Zoë", "total": 99.50 }))).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.header("webhook-signature").map(|text| text.split(' ').count()), Some(2));
    (secret, received)
}

/// Whether a program takes a request: `variables` are the headers as a server gives them.
async fn accepts(program: &Path, arguments: &[&str], secret: &str, body: &[u8], headers: [&str; 3]) -> (bool, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("body");
    std::fs::write(&file, body).expect("the directory is ours");
    let mut command = Command::new(program);
    command.args(arguments).arg(secret).arg(&file).kill_on_drop(true);
    for (name, value) in ["WEBHOOK_ID", "WEBHOOK_TIMESTAMP", "WEBHOOK_SIGNATURE"].iter().zip(headers) {
        command.env(name, value);
    }
    let output = command.output().await.expect("it was just found");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What every receiver has to do: take the genuine request, and no other.
async fn prove(program: &Path, arguments: &[&str]) {
    let (secret, received) = signed_request().await;
    let header = |name: &str| received.header(name).expect("every request has it").to_owned();
    let (id, timestamp, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let (taken, words) = accepts(program, arguments, &secret, received.body(), [&id, &timestamp, &signature]).await;
    assert!(taken && words.contains("99.5"), "{words}");

    let another = Binary::with_config("").run(&["secret"]).await.stdout.trim().to_owned();
    assert_ne!(another, secret);
    let mut changed = received.body().to_vec();
    changed.push(b' ');
    let hour_ago = (timestamp.parse::<i64>().expect("a number") - 3600).to_string();
    for (what, secret, body, headers) in [
        ("another secret", &another, received.body(), [id.as_str(), &timestamp, &signature]),
        ("another body", &secret, &changed, [&id, &timestamp, &signature]),
        ("another id", &secret, received.body(), ["5f0c7f6e-0000-0000-0000-000000000000", &timestamp, &signature]),
        ("another time", &secret, received.body(), [&id, &hour_ago, &signature]),
        ("no signature", &secret, received.body(), [&id, &timestamp, "v1,AAAA"]),
    ] {
        let (taken, words) = accepts(program, arguments, secret, body, headers).await;
        assert!(!taken && !words.is_empty(), "{what}: {words}");
    }
}

#[tokio::test]
async fn python_verifies_with_the_official_library() {
    let clients = root().join("target/clients/bin/python3");
    let Some(python) = find_program(&[&clients.to_string_lossy(), "python3"], &["-c", "import standardwebhooks"]).await else {
        return;
    };
    prove(&python, &[&example("verify.py").to_string_lossy()]).await;
}

#[tokio::test]
async fn javascript_verifies_with_the_official_library() {
    let home = root().join("target/receivers/javascript");
    let Some(_) = find_program(&["test"], &["-d", &home.join("node_modules/standardwebhooks").to_string_lossy()]).await else {
        return;
    };
    let Some(node) = find_program(&["node"], &["--version"]).await else { return };
    // Beside its modules, because that is where node looks.
    std::fs::copy(example("verify.mjs"), home.join("verify.mjs")).expect("the directory is ours");
    prove(&node, &[&home.join("verify.mjs").to_string_lossy()]).await;
}

#[tokio::test]
async fn java_verifies_by_itself() {
    let Some(java) = find_program(&["java"], &["--version"]).await else { return };
    prove(&java, &[&example("Verify.java").to_string_lossy()]).await;
}

#[tokio::test]
async fn go_verifies_by_itself() {
    let Some(go) = find_program(&["go"], &["version"]).await else { return };
    let compiled = tempfile::tempdir().expect("a directory");
    let binary = compiled.path().join("verify");
    let home = root().join("target/producers/go");
    let mut build = Command::new(go);
    build
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOCACHE", home)
        .arg("build")
        .arg("-o")
        .arg(&binary)
        .arg(example("verify.go"));
    let output = build.output().await.expect("it was just found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    prove(&binary, &[]).await;
}

#[tokio::test]
async fn ruby_verifies_by_itself() {
    let Some(ruby) = find_program(&["ruby"], &["-e", "require 'openssl'"]).await else { return };
    prove(&ruby, &[&example("verify.rb").to_string_lossy()]).await;
}

#[tokio::test]
async fn php_verifies_by_itself() {
    let Some(php) = find_program(&["php"], &["-r", "exit(function_exists('hash_hmac') ? 0 : 1);"]).await else { return };
    prove(&php, &[&example("verify.php").to_string_lossy()]).await;
}
