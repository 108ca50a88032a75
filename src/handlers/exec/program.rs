//! The program: where it lies, what it is started with, and whether it can be. Never shows its arguments or its environment.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::classify;
use crate::domain::Verdict;

/// A program and everything it is started with that no event changes.
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// `path` is absolute; `environment` is all that the program sees.
    pub fn new(path: PathBuf, arguments: Vec<String>, directory: Option<PathBuf>, environment: Vec<(OsString, OsString)>) -> Self {
        Self { path, arguments, directory, environment }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The command, with nothing in its environment that was not configured.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Whether it could be started now. The error says what is missing.
    pub fn check(&self) -> Result<(), String> {
        if let Some(directory) = self.directory.as_ref().filter(|directory| !directory.is_dir()) {
            return Err(format!("the working directory {} does not exist", directory.display()));
        }
        check_file(&self.path)
    }

    /// The verdict when it could not be started.
    pub fn not_started(&self, error: &std::io::Error) -> Verdict {
        let problem = self.check().err().unwrap_or_else(|| {
            // The system says "no such file" of what a script wants to be read by as well.
            let hint = if error.kind() == std::io::ErrorKind::NotFound {
                "; is the interpreter there that its first line names?"
            } else {
                ""
            };
            format!("{} could not be started: {error}{hint}", self.path.display())
        });
        classify::not_started(error, problem)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The program of this name: itself if it is an absolute path, else looked up in `path`. The error is a text for a mistake.
pub fn find(name: &str, path: Option<&OsStr>) -> Result<PathBuf, String> {
    if Path::new(name).is_absolute() {
        return check_file(Path::new(name)).map(|()| name.into());
    }
    if name.contains('/') {
        return Err(format!("got {name:?}, expected an absolute path, or a name that is looked up in PATH"));
    }
    let mut problem = None;
    for folder in path.iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute()) {
        let candidate = folder.join(name);
        match check_file(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(why) if candidate.is_file() => problem = Some(why),
            Err(_) => {}
        }
    }
    Err(problem.unwrap_or_else(|| format!("got {name:?}, which is no program in PATH")))
}

fn check_file(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!("the program {shown} does not exist")),
        Err(error) => Err(format!("the program {shown} cannot be looked at: {error}")),
        Ok(file) if !file.is_file() => Err(format!("{shown} is no program but a directory or the like")),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => {
            Err(format!("the program {shown} is not executable; chmod +x, or name its interpreter first"))
        }
        Ok(_) => Ok(()),
    }
}
