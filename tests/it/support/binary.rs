//! The built binary, run as a user would: a configuration file in a directory of its own, a clean environment, captured output.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::waiting::{deadline, eventually};

/// A place to run the binary in; any number of runs share the configuration.
#[derive(Clone)]
pub struct Binary {
    program: PathBuf,
    directory: Arc<TempDir>,
    variables: Vec<(String, String)>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A run that goes on. Killed when it is dropped.
pub struct Running {
    child: Child,
    number: u32,
    _directory: Arc<TempDir>, // outlives the process, not only the `Binary` that started it
    stdout: Captured,
    stderr: Captured,
}

struct Captured {
    text: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Binary {
    /// With this `outboxd.toml`.
    pub fn with_config(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("outboxd.toml"), config).expect("the directory is ours");
        Self { program: env!("CARGO_BIN_EXE_outboxd").into(), directory: Arc::new(directory), variables: Vec::new() }
    }

    /// An example instead of the binary, built if need be.
    pub async fn example(name: &str) -> Self {
        Self { program: example(name).await, ..Self::with_config("") }
    }

    /// A relay with short intervals and without HTTP for this database; `handlers` are its `[[handlers]]` entries.
    pub fn relay(database_url: &str, handlers: &str) -> Self {
        Self::with_config(&Self::relay_config(database_url, handlers))
    }

    /// The configuration of [`relay`](Self::relay).
    pub fn relay_config(database_url: &str, handlers: &str) -> String {
        format!(
            "[database]\nurl = \"{database_url}\"\n[http]\nlisten = \"\"\n\
             [relay]\nlease = \"3s\"\nflush_interval = \"20ms\"\n{handlers}"
        )
    }

    /// Puts another `outboxd.toml` in the place of the old one; what runs learns of it when it reads it again.
    pub fn rewrite(&self, config: &str) {
        let (path, next) = (self.directory.path().join("outboxd.toml"), self.directory.path().join("next.toml"));
        std::fs::write(&next, config).and_then(|()| std::fs::rename(next, path)).expect("the directory is ours");
    }

    /// The same, with HTTP on a port that the system chooses, and the name `shop`; see [`Self::serve`].
    pub fn relay_with_http(database_url: &str, handlers: &str) -> Self {
        Self::with_config(&format!(
            "[database]\nurl = \"{database_url}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [relay]\nname = \"shop\"\nlease = \"3s\"\nflush_interval = \"20ms\"\n{handlers}"
        ))
    }

    /// Starts the relay and gives the address of its `/metrics`.
    pub async fn serve(&self) -> (Running, String) {
        let running = self.spawn(&["run"]);
        let line = running.wait_for_output("serving /metrics").await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        (running, address)
    }

    /// Sets an environment variable for the runs that follow.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory that the binary runs in.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.spawn(arguments).finish().await
    }

    /// Starts a command.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(&self.program);
        // Variables of the caller would change what is tested; the rest (PATH, HOME, coverage) is harmless.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG") || name.starts_with("OUTBOXD_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.directory.path()).envs(self.variables.iter().cloned()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the binary starts");
        let stdout = Captured::start(child.stdout.take().expect("the output is piped"));
        let stderr = Captured::start(child.stderr.take().expect("the output is piped"));
        let number = child.id().expect("the process has not been waited for");
        Running { child, number, _directory: Arc::clone(&self.directory), stdout, stderr }
    }
}

impl Running {
    /// Ends it as a crash would, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the process can be killed");
    }

    /// Asks it to stop, as a service manager does.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(libc::SIGINT);
    }

    /// Asks it to read its configuration again.
    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Stops its clock (`SIGSTOP`) until `thaw`, as a stalled machine would.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let pid = self.child.id().expect("the process has not been waited for");
        // SAFETY: takes two numbers; the process is our child and not yet waited for.
        unsafe { libc::kill(pid as libc::pid_t, signal) };
    }

    /// The process id that it has or, when it has ended, had.
    pub fn number(&self) -> u32 {
        self.number
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("the process has not been waited for")
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the process is our child").is_none()
    }

    /// Waits for the end.
    pub async fn finish(mut self) -> Finished {
        let status: ExitStatus = match tokio::time::timeout(deadline(), self.child.wait()).await {
            Ok(status) => status.expect("the process is our child"),
            Err(_) => panic!("the process did not end; its log: {}", self.stderr()),
        };
        Finished { code: status.code(), stdout: self.stdout.finish().await, stderr: self.stderr.finish().await }
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until either output contains a text, and gives the first line that does.
    pub async fn wait_for_output(&self, text: &str) -> String {
        let claim = format!("the output contains {text:?}");
        eventually(&claim, || async {
            // In this order: what a process that has ended wrote last is read before the verdict.
            let has_ended = self.stdout.reading.is_finished() && self.stderr.reading.is_finished();
            let output = self.stdout() + &self.stderr();
            let found = output.lines().find(|line| line.contains(text)).map(str::to_owned);
            assert!(found.is_some() || !has_ended, "the process ended without {text:?}: {output}");
            found
        })
        .await
    }
}

impl Captured {
    fn start(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&text);
        let reading = tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).await.is_ok_and(|bytes| bytes > 0) {
                sink.lock().expect("nobody panics while appending").push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reading }
    }

    fn text(&self) -> String {
        self.text.lock().expect("nobody panics while appending").clone()
    }

    async fn finish(self) -> String {
        let Self { text, reading } = self;
        let _ = reading.await;
        std::mem::take(&mut *text.lock().expect("nobody panics while appending"))
    }
}

/// Builds an example and gives its path.
pub async fn example(name: &str) -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_outboxd"));
    let profile = binary.parent().expect("a binary lies in a directory");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    build.arg("--target-dir").arg(profile.parent().expect("a profile lies in the target directory"));
    // What cargo told this process about its package would make the build scripts of others run again.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        build.env_remove(name);
    }
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().await.expect("cargo runs").success(), "the example {name} does not build");
    profile.join("examples").join(name)
}
