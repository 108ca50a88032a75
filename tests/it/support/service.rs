//! A server that we did not write, private to the tests: started on a port of its own with its data in a folder of its own, stopped,
//! killed, frozen and started again as a test wishes. Ends with its value or with this process, whichever way that ends.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::waiting::eventually;

/// How to start a server.
pub struct Recipe {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub variables: Vec<(String, String)>,
    /// Where it answers when it is ready.
    pub port: u16,
    pub directory: Arc<TempDir>,
}

/// The server.
pub struct Service {
    recipe: Recipe,
    child: Option<Child>,
    guard: Child,
}

/// Each line names a process to kill; end of input means that the test is gone.
const GUARD: &str = r#"
while read -r pid; do pids="$pids $pid"; done
for pid in $pids; do kill -KILL -- "-$pid" 2>/dev/null; kill -KILL "$pid" 2>/dev/null; done
rm -rf -- "$1"
"#;

impl Service {
    /// Starts it and waits until it answers.
    pub async fn start(recipe: Recipe) -> Self {
        use std::os::unix::process::CommandExt;
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "test-guard"]).arg(recipe.directory.path()).current_dir("/");
        // In a group of its own: an interrupt from the keyboard must not end it before it has done its work.
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let guard = guard.spawn().expect("a shell can be started");
        let mut service = Self { recipe, child: None, guard };
        service.start_again().await;
        service
    }

    pub fn port(&self) -> u16 {
        self.recipe.port
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.recipe.port).into()
    }

    pub fn directory(&self) -> &Path {
        self.recipe.directory.path()
    }

    /// Its folder, once it has stopped: for another server that goes on with the data.
    pub fn into_directory(self) -> Arc<TempDir> {
        assert!(self.child.is_none(), "it runs");
        let kept = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        // The guard removes the folder that it was told of.
        std::fs::remove_dir(kept.path()).and_then(|()| std::fs::rename(self.directory(), kept.path())).expect("the folder is ours");
        kept
    }

    /// Starts it on its old port, with the data it left.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.spawn();
        self.wait_until_it_answers().await;
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(&mut self) {
        self.end(libc::SIGTERM).await;
    }

    /// Kills it without a warning.
    pub async fn kill(&mut self) {
        self.end(libc::SIGKILL).await;
    }

    /// Stops it in the middle of whatever it does: connections stay open and nothing answers.
    pub fn freeze(&self) {
        let pid = self.signal(libc::SIGSTOP);
        // The signal is only on its way when it has been sent, and a thread of a busy server may still answer.
        // SAFETY: waits for a child of ours to have stopped; no status is wanted.
        let stopped = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WUNTRACED) };
        assert_eq!(stopped, pid, "the process is our child");
    }

    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// What it wrote to standard output and error since it was first started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Another process that has to end with this one, for example a daemon that the server left behind.
    pub fn also_guard(&mut self, pid: u32) {
        if let Some(pipe) = &mut self.guard.stdin {
            writeln!(pipe, "{pid}").expect("the guard listens");
        }
    }

    fn spawn(&mut self) {
        use std::os::unix::process::CommandExt;
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).expect("the folder is ours");
        let mut command = Command::new(&self.recipe.program);
        command.args(&self.recipe.arguments).current_dir(self.recipe.directory.path()).env_clear().process_group(0);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        command.env("HOME", self.recipe.directory.path()).envs(self.recipe.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be cloned")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.recipe.program.display()));
        self.also_guard(child.id());
        self.child = Some(child);
    }

    async fn wait_until_it_answers(&mut self) {
        let address = self.address();
        let program = self.recipe.program.display().to_string();
        loop {
            if TcpStream::connect(address).await.is_ok() {
                return;
            }
            let ended = self.child.as_mut().expect("it was started").try_wait().expect("it is our child");
            assert!(ended.is_none(), "{program} ended at its start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(&mut self, signal: i32) {
        self.signal(signal);
        let mut child = self.child.take().expect("it runs");
        let program = self.recipe.program.display().to_string();
        eventually(&format!("{program} ends"), || {
            let ended = child.try_wait().expect("it is our child").map(drop);
            std::future::ready(ended)
        })
        .await;
    }

    fn signal(&self, signal: i32) -> i32 {
        let pid = i32::try_from(self.child.as_ref().expect("it runs").id()).expect("a process id");
        // SAFETY: sends a signal to a process that we started and have not waited for.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "the process is ours");
        pid
    }

    fn log_path(&self) -> PathBuf {
        self.recipe.directory.path().join("server.log")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A port of the loopback interface that nobody uses just now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}
