//! Independent clients: Python programs in `tests/clients` that know a broker by a library that we did not write either.
//! Each prints one JSON object per line; `make install-tools` makes the interpreter that has their libraries.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::programs::find_program;
use super::waiting::eventually;

/// A client that goes on printing what it receives. Killed when it is dropped.
pub struct Client {
    _child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    errors: Arc<Mutex<String>>,
    script: String,
}

impl Client {
    /// Starts `tests/clients/<script>` and waits for its first line, which is `{"ready": true}`.
    pub async fn start(script: &str, arguments: &[&str]) -> Self {
        Self::start_command(script, command(script, arguments)).await
    }

    /// The same for a program of Node, with the libraries of `tests/clients/package.json`. `None`: they are not installed.
    pub async fn start_node(script: &str, arguments: &[&str]) -> Option<Self> {
        Some(Self::start_command(script, node_command(script, arguments).await?).await)
    }

    async fn start_command(script: &str, mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{script}: {error}; make install-tools"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::new(Mutex::new(String::new()));
        let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut err = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (told, said) = (Arc::clone(&lines), Arc::clone(&errors));
        tokio::spawn(async move {
            while let Ok(Some(line)) = out.next_line().await {
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                told.lock().expect("nobody panics with it").push(value);
            }
        });
        tokio::spawn(async move {
            while let Ok(Some(line)) = err.next_line().await {
                let mut said = said.lock().expect("nobody panics with it");
                said.push_str(&line);
                said.push('\n');
            }
        });
        let client = Self { _child: child, lines, errors, script: script.to_owned() };
        let ready = client.wait_for(1).await;
        assert_eq!(ready[0]["ready"], true, "{script}: {}", client.errors());
        client.lines.lock().expect("nobody panics with it").remove(0);
        client
    }

    /// What it has received so far, in order.
    pub fn received(&self) -> Vec<Value> {
        self.lines.lock().expect("nobody panics with it").clone()
    }

    /// Waits until it has received so many, and gives all there are.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        let claim = format!("{} receives {count} events", self.script);
        eventually(&claim, || {
            let errors = self.errors();
            assert!(!errors.contains("Traceback"), "{}: {errors}", self.script);
            let received = self.received();
            std::future::ready((received.len() >= count).then_some(received))
        })
        .await
    }

    fn errors(&self) -> String {
        self.errors.lock().expect("nobody panics with it").clone()
    }
}

/// Runs `tests/clients/<script>` to its end, which must be a success, and gives the objects it printed.
pub async fn run_client(script: &str, arguments: &[&str]) -> Vec<Value> {
    let output = command(script, arguments).stdin(Stdio::null()).output().await;
    let output = output.unwrap_or_else(|error| panic!("{script}: {error}; make install-tools"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {}: {out}{err}", arguments.join(" "));
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Runs a program of Node to its end, which must be a success, and gives the objects it printed. `None`: its libraries are not installed.
pub async fn run_node_client(script: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    let mut command = node_command(script, arguments).await?;
    let output = command.stdin(Stdio::null()).output().await.unwrap_or_else(|error| panic!("{script}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {}: {out}{err}", arguments.join(" "));
    Some(out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect())
}

async fn node_command(script: &str, arguments: &[&str]) -> Option<Command> {
    let modules = root().join("target/clients/node_modules");
    find_program(&["test"], &["-d", &modules.join("@asyncapi/parser").to_string_lossy()]).await?;
    let mut command = Command::new(find_program(&["node"], &["--version"]).await?);
    command.env("NODE_PATH", modules).arg(root().join("tests/clients").join(script)).args(arguments);
    Some(command)
}

/// The interpreter with the libraries of `tests/clients/requirements.txt`.
pub fn python() -> PathBuf {
    root().join("target/clients/bin/python3")
}

fn command(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg("-u").arg(root().join("tests/clients").join(script)).args(arguments);
    command
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
