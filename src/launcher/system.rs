//! The few questions to the operating system that the standard library does not answer.
//! Holds all `unsafe` of the launcher: four calls, each with plain values only.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

/// A user and its group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// Whom to run Postgres as: itself refuses to run as root, so root drops to `nobody`. `None`: stay who we are.
pub fn unprivileged_user() -> Option<User> {
    // SAFETY: takes and touches nothing.
    let is_root = unsafe { libc::geteuid() } == 0;
    is_root
        .then(|| fs::read_to_string("/etc/passwd").ok().and_then(|text| nobody(&text)).unwrap_or(User { uid: 65534, gid: 65534 }))
}

fn nobody(passwd: &str) -> Option<User> {
    let line = passwd.lines().find(|line| line.starts_with("nobody:"))?;
    let mut fields = line.split(':').skip(2);
    // macOS writes -2; the kernel wants the same bits unsigned.
    let mut number = || fields.next()?.parse::<i64>().ok().map(|number| number as u32);
    Some(User { uid: number()?, gid: number()? })
}

/// Free bytes for a normal user on the file system of `path`; zero if it cannot be told.
pub fn free_bytes(path: &Path) -> u64 {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return 0 };
    // SAFETY: all-zero is a valid value of this plain structure, and the path ends with a zero byte.
    unsafe {
        let mut answer: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &mut answer) != 0 {
            return 0;
        }
        #[allow(clippy::unnecessary_cast)] // narrower types on macOS
        (answer.f_bavail as u64).saturating_mul(answer.f_frsize as u64)
    }
}

/// Sends a signal to a child that has not been waited for, so the process id cannot belong to another process.
pub fn signal(child: &Child, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// Removes a System V segment; one that still has users goes with the last of them, a missing one is no trouble.
pub fn remove_shared_memory(segment: i32) {
    // SAFETY: this command ignores its third argument.
    unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
}

/// A command that runs as `user`, in a process group of its own (a Ctrl-C at the terminal is for us, not for Postgres),
/// and that no `PG*` variable of the caller's environment can misguide.
pub fn command(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").process_group(0);
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_read_from_the_password_file() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\n";
        assert_eq!(nobody(passwd), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(nobody("nobody:*:-2:-2:x:/:/bin/false"), Some(User { uid: u32::MAX - 1, gid: u32::MAX - 1 }));
        assert_eq!(nobody("root:x:0:0"), None);
    }

    #[test]
    fn the_root_file_system_has_a_size_and_a_missing_path_has_none() {
        assert!(free_bytes(Path::new("/")) > 0);
        assert_eq!(free_bytes(Path::new("/does/not/exist")), 0);
    }
}
