//! The guard: a shell that waits for this process to end and then cleans up after it.
//! A killed process runs no destructor; but its end of a pipe closes, whatever the way it died. That reaches further than
//! a parent-death signal: it also removes the directory, works on macOS, and does not care which thread started the server.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use super::LauncherError;
use super::directory::Directory;
use super::system::{self, User};

/// Each line names the server to stop, an empty one says that there is none; end of input means that we are gone.
/// A stopped server has removed its `postmaster.pid`; its process may stay for ever if no parent reaps it.
const SCRIPT: &str = r#"
while read -r line; do pid=$line; done
if [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; then
    rounds=0
    while kill -0 "$pid" 2>/dev/null && [ -e "$1/postmaster.pid" ] && [ $rounds -lt 50 ]; do sleep 0.1; rounds=$((rounds + 1)); done
    kill -KILL "$pid" 2>/dev/null
fi
if [ -n "$2" ]; then rm -rf -- "$2"; fi
"#;

#[derive(Debug)]
pub struct Guard {
    shell: Child,
}

impl Guard {
    pub fn start(directory: &Directory, user: Option<User>) -> Result<Self, LauncherError> {
        let mut command = system::command(Path::new("/bin/sh"), user);
        command.args(["-c", SCRIPT, "outboxd-guard"]).arg(directory.data());
        if !directory.is_kept() {
            command.arg(directory.path());
        }
        // No inherited output: a guard that held it open would keep `outboxd demo | cat` from ending.
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { shell: command.spawn().map_err(LauncherError::run("/bin/sh"))? })
    }

    /// From now on this is the server to stop.
    pub fn watch(&mut self, pid: u32) {
        self.tell(&pid.to_string());
    }

    /// There is nothing to stop any more.
    pub fn unwatch(&mut self) {
        self.tell("");
    }

    fn tell(&mut self, line: &str) {
        // A killed guard matters only if this process is killed as well.
        if let Some(pipe) = &mut self.shell.stdin {
            let _ = writeln!(pipe, "{line}");
        }
    }
}

impl Guard {
    /// Closes our end of the pipe, as the end of this process would, and waits until the guard has cleaned up.
    pub(super) fn finish(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.unwatch();
        self.finish();
    }
}
