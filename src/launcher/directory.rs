//! The private directory of one server: data, password file, log and socket. Removed with the server.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::LauncherError;
use super::system::{User, free_bytes};

/// Below this the memory file system is left to others (containers often have 64 MB of it).
const MEMORY_WANTED: u64 = 512 << 20;

/// Longest directory whose socket still fits the 103 bytes that macOS allows (Linux: 107).
const SOCKET_DIRECTORY_MAX: usize = 103 - "/.s.PGSQL.65535".len();

/// Where the data should live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory where there is such a file system with room, else as `Disk`. Ten times faster to set up; a flush costs nothing.
    Memory,
    /// On a real file system, so that a flush costs what it costs in production. For measurements.
    Disk,
}

/// The directory. Its mode, 0700, is what keeps other users away from data and socket.
#[derive(Debug)]
pub struct Directory {
    // `None` only once `keep` has taken it.
    removed_on_drop: Option<TempDir>,
    path: PathBuf,
}

impl Directory {
    pub fn create(place: Place, keep: bool, owner: Option<User>) -> Result<Self, LauncherError> {
        let parent = parent(place);
        let temporary = tempfile::Builder::new()
            .prefix("outboxd-postgres-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(LauncherError::file("create a directory in", &parent))?;
        let path = temporary.path().to_owned();
        give(&path, owner)?;
        let removed_on_drop = if keep {
            let _ = temporary.keep();
            None
        } else {
            Some(temporary)
        };
        Ok(Self { removed_on_drop, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub fn is_kept(&self) -> bool {
        self.removed_on_drop.is_none()
    }

    /// Value of `unix_socket_directories`: here, because the compiled-in place is often not writable; none if the path is too long.
    pub fn socket_directory(&self) -> String {
        let path = self.path.to_string_lossy();
        if path.len() > SOCKET_DIRECTORY_MAX { String::new() } else { path.into_owned() }
    }

    /// Writes a file that only the server's user can read.
    pub fn write(&self, name: &str, content: &str, owner: Option<User>) -> Result<PathBuf, LauncherError> {
        let path = self.path.join(name);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(LauncherError::file("create the file", &path))?;
        file.write_all(content.as_bytes()).map_err(LauncherError::file("write the file", &path))?;
        give(&path, owner)?;
        Ok(path)
    }
}

fn give(path: &Path, owner: Option<User>) -> Result<(), LauncherError> {
    let Some(user) = owner else { return Ok(()) };
    chown(path, Some(user.uid), Some(user.gid)).map_err(LauncherError::file("change the owner of", path))
}

fn parent(place: Place) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let disk = Path::new("/var/tmp"); // the usual temporary directory is memory on some distributions
    match place {
        Place::Memory if is_usable(memory) && free_bytes(memory) >= MEMORY_WANTED => memory.to_owned(),
        Place::Disk if is_usable(disk) => disk.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// Whether every user may create files there and may not remove those of others: then the unprivileged user can as well.
fn is_usable(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|data| data.is_dir() && data.mode() & 0o1777 == 0o1777)
}
