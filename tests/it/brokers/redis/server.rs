//! Real Redis servers: one that the tests share, and private ones for those that stop, fill or divide theirs.
//! `OUTBOXD_TEST_REDIS_SERVER` names another program than the installed one, for example a newer Redis or a Valkey.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::conformance::{Arrived, build};
use crate::support::{Recipe, Service, find_program, free_port, run_client, run_program};
use outboxd::handlers::{Built, Handler};

/// A server, and the command line client that comes with it.
pub struct RedisServer {
    pub service: Service,
    cli: PathBuf,
    /// Where it answers without TLS.
    port: u16,
}

/// The server that tests share which leave it as it was. `None`: the package redis-server is not installed.
pub async fn shared() -> Option<&'static RedisServer> {
    static SHARED: OnceCell<Option<RedisServer>> = OnceCell::const_new();
    SHARED.get_or_init(|| RedisServer::start(&[])).await.as_ref()
}

/// The name of a stream that nobody else uses.
pub fn a_stream() -> String {
    format!("stream-{}", uuid::Uuid::new_v4().simple())
}

impl RedisServer {
    /// A server of one's own, which keeps its data when it is stopped. `None`: the package redis-server is not installed.
    pub async fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a temporary directory")), arguments).await
    }

    /// The same, with its data in this folder.
    pub async fn start_in(directory: Arc<tempfile::TempDir>, arguments: &[&str]) -> Option<Self> {
        let named = std::env::var("OUTBOXD_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let program = find_program(&[&named], &["--version"]).await?;
        let cli = find_program(&["redis-cli"], &["--version"]).await?;
        let port = free_port();
        let place = directory.path().display().to_string();
        let port_text = port.to_string();
        let mut all = vec!["--bind", "127.0.0.1", "--port", &port_text, "--dir", &place, "--daemonize", "no", "--save", ""];
        all.extend(["--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]);
        all.extend(arguments);
        let arguments = all.into_iter().map(str::to_owned).collect();
        let service = Service::start(Recipe { program, arguments, variables: Vec::new(), port, directory }).await;
        let server = Self { service, cli, port };
        assert_eq!(server.cli(&["ping"]).await, "PONG");
        Some(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What the client that comes with the server prints.
    pub async fn cli(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let arguments: Vec<&str> = ["-p", &port].into_iter().chain(words.iter().copied()).collect();
        run_program(&self.cli, &arguments, "").await.trim_end().to_owned()
    }

    /// A command that must be done.
    pub async fn must(&self, words: &[&str]) {
        let said = self.cli(words).await;
        assert_eq!(said, "OK", "{}", words.join(" "));
    }

    /// How many entries a stream has.
    pub async fn length(&self, stream: &str) -> u64 {
        self.cli(&["xlen", stream]).await.parse().expect("a number")
    }

    /// The entries of a stream, read by a library that we do not use.
    pub async fn entries(&self, stream: &str) -> Vec<Value> {
        let entries = run_client("redis_read.py", &[&self.port.to_string(), stream]).await;
        entries.into_iter().map(|mut entry| entry["fields"].take()).collect()
    }

    pub async fn arrived(&self, stream: &str) -> Vec<Arrived> {
        let text = |fields: &Value, name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        let entries = self.entries(stream).await;
        entries.iter().map(|fields| Arrived { id: text(fields, "id"), body: text(fields, "payload") }).collect()
    }

    /// A handler that appends to a stream of this server.
    pub fn handler(&self, stream: &str, settings: &str) -> Arc<dyn Handler> {
        handler(&self.url(), stream, settings)
    }
}

/// A handler that appends to a stream.
pub fn handler(url: &str, stream: &str, settings: &str) -> Arc<dyn Handler> {
    let kind = outboxd::handlers::kind("redis").expect("the tests are built with it");
    match build(kind, &format!("url = \"{url}\"\nstream = \"{stream}\"\n{settings}")) {
        Built::Handler(handler) => handler,
        Built::Function(_) | Built::Projection(_) | Built::Publisher => panic!("it is no function"),
    }
}
