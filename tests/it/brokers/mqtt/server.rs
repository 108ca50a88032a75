//! A mosquitto of one's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::support::{Client, Recipe, Service, free_port, run_client};

/// The server. Ends with its value.
pub struct Mosquitto {
    service: Mutex<Service>,
    directory: PathBuf,
    port: u16,
}

impl Mosquitto {
    /// Starts one that anybody may use, with these further lines of configuration. `None`: it is not installed.
    pub async fn start(more: &str) -> Option<Self> {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a temporary directory")), &format!("allow_anonymous true\n{more}"))
            .await
    }

    /// Starts one with these lines; the folder may have files that they name.
    pub async fn start_in(directory: Arc<tempfile::TempDir>, lines: &str) -> Option<Self> {
        let program = program()?;
        let (port, path) = (free_port(), directory.path().to_owned());
        let folder = path.display();
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\npersistence true\npersistence_location {folder}/\nmax_queued_messages 1000000\n\
             log_dest stderr\nlog_type all\n{lines}\n"
        );
        std::fs::write(path.join("mosquitto.conf"), config).expect("the folder is ours");
        let arguments = vec!["-c".to_owned(), path.join("mosquitto.conf").display().to_string()];
        let service = Service::start(Recipe { program, arguments, variables: Vec::new(), port, directory }).await;
        Some(Self { service: Mutex::new(service), directory: path, port })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Settings of a handler that publishes to this topic.
    pub fn settings(&self, topic: &str, more: &str) -> String {
        format!("url = \"{}\"\ntopic = \"{topic}\"\n{more}", self.url())
    }

    /// An independent client that reads these topics, also what comes while the server is away.
    pub async fn reader(&self, topics: &str) -> Client {
        Client::start("mqtt_read.py", &[&self.port.to_string(), topics]).await
    }

    /// Publishes as somebody else, and waits until it is acknowledged.
    pub async fn publish(&self, topic: &str, payload: &str) {
        run_client("mqtt_publish.py", &[&self.port.to_string(), topic, payload]).await;
    }

    pub async fn stop(&self) {
        self.service.lock().await.stop().await;
    }

    pub async fn start_again(&self) {
        self.service.lock().await.start_again().await;
    }

    pub async fn freeze(&self) {
        self.service.lock().await.freeze();
    }

    pub async fn thaw(&self) {
        self.service.lock().await.thaw();
    }

    /// How many lines of its log contain this.
    pub fn logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }
}

/// Writes a file with the passwords of these users, `(name, password)`.
pub fn write_passwords(path: &Path, users: &[(&str, &str)]) {
    std::fs::write(path, "").expect("the folder is ours");
    for (name, password) in users {
        let status = Command::new("mosquitto_passwd").arg("-b").arg(path).args([name, password]).status();
        assert!(status.expect("it comes with mosquitto").success());
    }
}

// Not by running it, as other programs are found: it answers its help with the status of a mistake.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("mosquitto")).find(|program| program.is_file());
    if found.is_none() {
        let missing = "mosquitto is not installed (package mosquitto)";
        assert!(std::env::var_os("OUTBOXD_TEST_REQUIRE_ALL").is_none(), "{missing}; make install-tools");
        eprintln!("{missing}: nothing was tested");
    }
    found
}
