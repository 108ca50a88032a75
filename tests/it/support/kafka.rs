//! A Kafka broker for the tests: Tansu, a real one that needs no JVM, with its log in SQLite. It ends with its value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::clients::run_client;
use super::programs::{find_program, run_program};
use super::service::{Recipe, Service, free_port};

pub struct Kafka {
    pub service: Service,
    program: PathBuf,
    /// Where clients are told to connect.
    pub advertised: SocketAddr,
}

/// Tansu, if it is here.
async fn program() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/outboxd/tools"));
    let tools = std::env::var_os("OUTBOXD_TOOLS").map(PathBuf::from).or(home).unwrap_or_default();
    find_program(&[&tools.join("bin/tansu").to_string_lossy()], &["--version"]).await
}

impl Kafka {
    /// `None`: the program is not here, which was said.
    pub async fn start() -> Option<Self> {
        let port = free_port();
        Self::start_at(port, ([127, 0, 0, 1], port).into()).await
    }

    /// On this port, and known to clients by another address: that of something in front of it.
    pub async fn start_at(port: u16, advertised: SocketAddr) -> Option<Self> {
        let program = program().await?;
        let service = Service::start(recipe(&program, port, advertised, &[])).await;
        Some(Self { service, program, advertised })
    }

    /// One that lets in this user only, by SCRAM-SHA-256. Users are made while it still lets in everybody.
    pub async fn start_with_user(user: &str, password: &str, topic: &str) -> Option<Self> {
        let mut open = Self::start().await?;
        open.create_topic(topic).await;
        open.run(&["user", "create", user, password, "--mechanism", "scram256"]).await;
        open.service.stop().await;
        let Self { service, program, advertised } = open;
        let directory = service.into_directory();
        let recipe = Recipe { directory, ..recipe(&program, advertised.port(), advertised, &["--authentication"]) };
        Some(Self { service: Service::start(recipe).await, program, advertised })
    }

    pub async fn create_topic(&self, name: &str) {
        self.run(&["topic", "create", name, "--partitions", "3"]).await;
    }

    /// The setting `brokers`.
    pub fn brokers(&self) -> String {
        format!("brokers = [\"{}\"]", self.advertised)
    }

    /// Everything in a topic, read by a client that we did not write.
    pub async fn read(&self, topic: &str) -> Vec<Value> {
        read_topic(&self.advertised.to_string(), topic, &json!({})).await
    }

    async fn run(&self, arguments: &[&str]) {
        let broker = format!("tcp://{}", self.service.address());
        run_program(&self.program, &[arguments, &["--broker", &broker]].concat(), "").await;
    }
}

/// Everything in a topic, partition by partition, read by confluent-kafka with these further properties.
pub async fn read_topic(brokers: &str, topic: &str, properties: &Value) -> Vec<Value> {
    run_client("kafka_read.py", &[brokers, topic, &properties.to_string()]).await
}

fn recipe(program: &std::path::Path, port: u16, advertised: SocketAddr, further: &[&str]) -> Recipe {
    let (listener, advertised) = (format!("tcp://127.0.0.1:{port}"), format!("tcp://{advertised}"));
    let arguments =
        ["broker", "--listener-url", &listener, "--advertised-listener-url", &advertised, "--storage-engine", "sqlite://t.db"];
    Recipe {
        program: program.to_owned(),
        arguments: arguments.iter().chain(further).map(|text| (*text).to_owned()).collect(),
        variables: Vec::new(),
        port,
        directory: Arc::new(tempfile::tempdir().expect("a temporary directory")),
    }
}
