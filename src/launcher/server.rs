//! One postmaster: its start, its readiness and its ends.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::LauncherError;
use super::directory::Directory;
use super::programs::Programs;
use super::system::{self, User};

/// Recovery after a kill is part of a start, hence the patience.
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Below the range that systems take outgoing ports from. In that range a client that keeps trying to reach a stopped
/// server sooner or later connects to itself and occupies the port.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What the server says when another process has taken its port, or when sessions of a killed one have not ended yet.
const PORT_TAKEN: &str = "Address already in use";
const STILL_ENDING: &str = "pre-existing shared memory block";

#[derive(Debug)]
pub struct Server {
    postmaster: Postmaster,
    recipe: Recipe,
    port: u16,
    keep_data: bool,
}

/// Everything needed to start the server, again and again.
#[derive(Debug)]
struct Recipe {
    program: PathBuf,
    directory: PathBuf,
    data: PathBuf,
    socket_directory: String,
    log_file: PathBuf,
    settings: Vec<(String, String)>,
    user: Option<User>,
}

#[derive(Debug)]
struct Postmaster {
    child: Child,
    is_running: bool,
}

impl Server {
    /// Starts the server on a free port and returns when it takes connections.
    pub fn start(
        programs: &Programs,
        directory: &Directory,
        settings: &[(String, String)],
        user: Option<User>,
    ) -> Result<Self, LauncherError> {
        let recipe = Recipe {
            program: programs.directory.join("postgres"),
            directory: directory.path().to_owned(),
            data: directory.data(),
            socket_directory: directory.socket_directory(),
            log_file: directory.path().join("server.log"),
            settings: settings.to_vec(),
            user,
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let port = free_port();
            match recipe.start(port) {
                Ok(child) => {
                    let postmaster = Postmaster { child, is_running: true };
                    return Ok(Self { postmaster, recipe, port, keep_data: directory.is_kept() });
                }
                // Another process took the port after it was found free.
                Err(LauncherError::Start { log, .. }) if attempts < 10 && log.contains(PORT_TAKEN) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts a stopped server on the same port.
    pub fn start_again(&mut self) -> Result<(), LauncherError> {
        if self.postmaster.is_running {
            return Ok(());
        }
        let deadline = Instant::now() + STOPPED_WITHIN;
        let child = loop {
            match self.recipe.start(self.port) {
                Err(LauncherError::Start { log, .. })
                    if Instant::now() < deadline && (log.contains(PORT_TAKEN) || log.contains(STILL_ENDING)) =>
                {
                    sleep(LOOK_EVERY * 20);
                }
                other => break other?,
            }
        };
        self.postmaster = Postmaster { child, is_running: true };
        Ok(())
    }

    /// The `postgres` that it runs.
    pub fn program(&self) -> &Path {
        &self.recipe.program
    }

    pub fn stop_fast(&mut self) {
        self.postmaster.end(libc::SIGINT);
    }

    pub fn kill(&mut self) {
        self.postmaster.end(libc::SIGKILL);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.postmaster.child.id()
    }

    pub fn log_file(&self) -> &Path {
        &self.recipe.log_file
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Data that goes away needs no checkpoint.
        self.postmaster.end(if self.keep_data { libc::SIGINT } else { libc::SIGQUIT });
        self.recipe.remove_shared_memory();
    }
}

impl Recipe {
    fn start(&self, port: u16) -> Result<Child, LauncherError> {
        let mut child = self.command(port)?.spawn().map_err(LauncherError::run(self.program.display()))?;
        match self.wait_until_ready(&mut child) {
            Ok(()) => Ok(child),
            Err(what) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(LauncherError::Start { what, log: self.end_of_log() })
            }
        }
    }

    fn command(&self, port: u16) -> Result<Command, LauncherError> {
        // A new file, not the old one made empty: sessions of a killed server still write to that, and would hide what the new one says.
        let _ = fs::remove_file(&self.log_file);
        let log = File::create(&self.log_file).map_err(LauncherError::file("create the log file", &self.log_file))?;
        if let Some(user) = self.user {
            let owner = LauncherError::file("change the owner of", &self.log_file);
            chown(&self.log_file, Some(user.uid), Some(user.gid)).map_err(owner)?;
        }
        let errors = log.try_clone().map_err(LauncherError::file("open the log file", &self.log_file))?;
        let mut command = system::command(&self.program, self.user);
        command.arg("-D").arg(&self.data).arg("-p").arg(port.to_string());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "logging_collector=off"]);
        // In our directory: named segments of a killed server would outlive it.
        command.args(["-c", "dynamic_shared_memory_type=mmap"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.socket_directory));
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.current_dir(&self.directory).stdin(Stdio::null()).stdout(log).stderr(errors);
        Ok(command)
    }

    fn wait_until_ready(&self, child: &mut Child) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready(child.id()) {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("was not ready within {} s", READY_WITHIN.as_secs()));
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// The server writes its number on line 1 and its state on line 8; the file of a killed predecessor has another number.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data.join("postmaster.pid")) else { return false };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first().is_some_and(|line| *line == pid.to_string()) && lines.get(7) == Some(&"ready")
    }

    /// A killed server leaves its file and, on line 7 of it, the number of a segment that no other process would remove.
    fn remove_shared_memory(&self) {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        if let Some(segment) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)?.parse().ok()) {
            system::remove_shared_memory(segment);
        }
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(&self.log_file).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    }
}

impl Postmaster {
    /// Sends a signal and waits for the end; a server that does not end in time is killed.
    fn end(&mut self, signal: i32) {
        if !self.is_running {
            return;
        }
        system::signal(&self.child, signal);
        let deadline = Instant::now() + STOPPED_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            sleep(LOOK_EVERY);
        }
        self.is_running = false;
    }
}

fn free_port() -> u16 {
    let mut port = fastrand::u16(PORTS);
    while TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
        port = fastrand::u16(PORTS);
    }
    port
}
