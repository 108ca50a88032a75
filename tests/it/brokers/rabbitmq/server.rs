//! A RabbitMQ of the tests: one that all of them share, and one more for those that stop it or starve it of memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use uuid::Uuid;

use crate::support::{Authority, Recipe, Service, find_program, free_port, run_client};

const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
pub const PASSWORD: &str = "s3cr3t-rabbit";
/// Of the password, with a salt.
const PASSWORD_HASH: &str = "AQIDBJ/Wg50/aDg3HJtReukNhP/FzNukoRwBGZiltkmvjYZ2";
/// Bytes. The default of 128 MiB would take long to exceed.
pub const LARGEST_MESSAGE: usize = 262_144;

/// The server.
pub struct Server {
    service: Service,
    variables: Vec<(String, String)>,
    tls_port: u16,
    /// Who issued its certificate and accepts those of its clients.
    pub authority: Authority,
}

/// The server that nobody stops. `None`: it is not installed, which was said.
pub async fn shared() -> Option<&'static Server> {
    static SHARED: OnceCell<Option<Server>> = OnceCell::const_new();
    SHARED.get_or_init(Server::start).await.as_ref()
}

/// The server to do anything with, for as long as it is held.
pub async fn spare() -> Option<MutexGuard<'static, Server>> {
    static SPARE: OnceCell<Option<Mutex<Server>>> = OnceCell::const_new();
    let spare = SPARE.get_or_init(|| async { Server::start().await.map(Mutex::new) }).await;
    Some(spare.as_ref()?.lock().await)
}

impl Server {
    async fn start() -> Option<Self> {
        // Not by running it: that would leave a daemon of the distribution behind.
        find_program(&["test"], &["-x", &format!("{PROGRAMS}/rabbitmq-server")]).await?;
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (port, tls_port, epmd_port) = (free_port(), free_port(), free_port());
        let authority = Authority::new();
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("definitions.json", definitions().to_string()),
            ("enabled_plugins", "[].".to_owned()),
            ("rabbitmq.conf", configuration(port, tls_port, &path)),
        ] {
            std::fs::write(path(name), text).expect("the directory is ours");
        }
        let (certificate, key) = authority.issue("127.0.0.1");
        std::fs::write(path("server.pem"), certificate).expect("the directory is ours");
        std::fs::write(path("server.key"), key).expect("the directory is ours");
        let variables = variables(port, epmd_port, &path);
        let recipe = Recipe {
            program: PathBuf::from(format!("{PROGRAMS}/rabbitmq-server")),
            arguments: Vec::new(),
            variables: variables.clone(),
            port,
            directory: Arc::clone(&directory),
        };
        let mut service = Service::start(recipe).await;
        service.also_guard(epmd(epmd_port));
        Some(Self { service, variables, tls_port, authority })
    }

    /// The address of the user who may do everything.
    pub fn url(&self) -> String {
        self.url_of("relay", PASSWORD, "")
    }

    /// `path` begins with a slash or is empty.
    pub fn url_of(&self, user: &str, password: &str, path: &str) -> String {
        format!("amqp://{user}:{password}@{}{path}", self.service.address())
    }

    /// The same server, over TLS, for clients that have a certificate.
    pub fn tls_url(&self) -> String {
        format!("amqps://relay:{PASSWORD}@{}", SocketAddr::from(([127, 0, 0, 1], self.tls_port)))
    }

    /// Runs steps of `rabbitmq_client.py`.
    pub async fn steps(&self, steps: Value) -> Vec<Value> {
        run_client("rabbitmq_client.py", &[&self.url(), &steps.to_string()]).await
    }

    /// Runs `rabbitmqctl`, which must succeed, and gives what it said.
    pub async fn control(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(format!("{PROGRAMS}/rabbitmqctl"));
        command.arg("--quiet").args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        command.env("HOME", self.service.directory()).envs(self.variables.iter().cloned()).stdin(Stdio::null());
        let output = command.output().await.expect("it was found");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "rabbitmqctl {}: {text}", arguments.join(" "));
        text
    }

    /// The connections that carry this name.
    pub async fn connections(&self, name: &str) -> Vec<String> {
        let all = self.control(&["list_connections", "pid", "client_properties"]).await;
        all.lines().filter(|line| line.contains(name)).filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
    }

    pub async fn stop(&mut self) {
        self.service.stop().await;
    }

    pub async fn start_again(&mut self) {
        self.service.start_again().await;
    }
}

/// A name that no other test uses.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", Uuid::new_v4().simple())
}

fn configuration(port: u16, tls_port: u16, path: &impl Fn(&str) -> String) -> String {
    format!(
        "listeners.tcp.default = 127.0.0.1:{port}\nlisteners.ssl.default = 127.0.0.1:{tls_port}\n\
         ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
         ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
         load_definitions = {}\nmax_message_size = {LARGEST_MESSAGE}\n\
         log.console = true\nlog.file = false\ndisk_free_limit.absolute = 50MB\n",
        path("ca.pem"),
        path("server.pem"),
        path("server.key"),
        path("definitions.json"),
    )
}

/// `relay` may do everything, `reader` may read, and nobody may enter the virtual host `closed`.
fn definitions() -> Value {
    let user = |name: &str| {
        let algorithm = "rabbit_password_hashing_sha256";
        json!({"name": name, "password_hash": PASSWORD_HASH, "hashing_algorithm": algorithm, "tags": []})
    };
    json!({
        "users": [user("relay"), user("reader")],
        "vhosts": [{"name": "/"}, {"name": "closed"}],
        "permissions": [
            {"user": "relay", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
            {"user": "reader", "vhost": "/", "configure": "^$", "write": "^$", "read": ".*"},
        ],
    })
}

fn variables(port: u16, epmd_port: u16, path: &impl Fn(&str) -> String) -> Vec<(String, String)> {
    let arguments = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none";
    let variables = [
        ("RABBITMQ_NODENAME", format!("t{port}@localhost")),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", free_port().to_string()),
        ("ERL_EPMD_PORT", epmd_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
        ("RABBITMQ_MNESIA_BASE", path("mnesia")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_PID_FILE", path("pid")),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments.to_owned()),
        // The script then becomes the server instead of standing between it and a signal.
        ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The daemon that the server has left behind for its own purposes, known by its port.
fn epmd(port: u16) -> u32 {
    let mark = format!("ERL_EPMD_PORT={port}").into_bytes();
    let processes = std::fs::read_dir("/proc").expect("this is Linux").flatten();
    let is_ours = |process: &std::fs::DirEntry| {
        let read = |name| std::fs::read(process.path().join(name)).unwrap_or_default();
        read("comm").starts_with(b"epmd") && read("environ").split(|byte| *byte == 0).any(|variable| variable == mark)
    };
    let found = processes.into_iter().find(is_ours).and_then(|process| process.file_name().to_str()?.parse().ok());
    found.expect("the server has started an epmd")
}
