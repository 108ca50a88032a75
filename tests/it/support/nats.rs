//! NATS servers of the tests, with JetStream and their data on disk, and what an independent client sees there.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::clients::run_client;
use super::programs::find_program;
use super::service::{Recipe, Service, free_port};

const CLIENT: &str = "nats_client.py";

/// A server.
pub struct NatsServer {
    pub service: Service,
    /// How the independent client reaches it; for us it is what the test says.
    pub client_url: String,
}

/// The server that all tests share which neither stop it nor want it otherwise. `None`: the program is not installed.
pub async fn nats_server() -> Option<&'static NatsServer> {
    static SHARED: OnceCell<Option<NatsServer>> = OnceCell::const_new();
    SHARED.get_or_init(|| async { nats_server_of("", &[]).await }).await.as_ref()
}

/// A server of its own with further lines of configuration and files beside it, which these lines may name.
pub async fn nats_server_of(more: &str, files: &[(&str, &str)]) -> Option<NatsServer> {
    let program = find_program(&["nats-server", "/usr/sbin/nats-server"], &["--version"]).await?;
    let (directory, port) = (tempfile::tempdir().expect("a temporary directory"), free_port());
    let config = format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"jetstream\" }}\n{more}\n");
    for (name, text) in files.iter().chain([&("server.conf", config.as_str())]) {
        std::fs::write(directory.path().join(name), text).expect("the directory is ours");
    }
    let arguments = ["-c", "server.conf"].map(str::to_owned).to_vec();
    let recipe = Recipe { program, arguments, variables: Vec::new(), port, directory: Arc::new(directory) };
    let service = Service::start(recipe).await;
    Some(NatsServer { client_url: format!("nats://127.0.0.1:{port}"), service })
}

impl NatsServer {
    /// Its address without credentials, as a handler is given it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.service.address())
    }

    /// A stream under a name that nobody else uses, which takes all subjects below that name. `options` as the client wants them.
    pub async fn stream(&self, options: &[&str]) -> String {
        let name = Self::unused_name();
        let subjects = format!("{name}.>");
        run_client(CLIENT, &[&["create", &self.client_url, &name, &subjects], options].concat()).await;
        name
    }

    /// A name that nobody else uses.
    pub fn unused_name() -> String {
        format!("t{}", Uuid::now_v7().simple())
    }

    /// Everything that a stream holds, in order: `subject`, `headers` and `body`.
    pub async fn read(&self, stream: &str) -> Vec<Value> {
        run_client(CLIENT, &["read", &self.client_url, stream]).await
    }

    pub async fn purge(&self, stream: &str) {
        run_client(CLIENT, &["purge", &self.client_url, stream]).await;
    }
}
