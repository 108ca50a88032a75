//! Exit codes, and the one place that prints errors on standard error.

use std::error::Error;
use std::process::ExitCode;

use crate::operations::{OperationError, RefusalKind};
pub use crate::telemetry::chain;

pub const EXIT_OK: u8 = 0;
/// `status`: something needs attention.
pub const EXIT_WARNING: u8 = 1;
/// `status`: something is broken.
pub const EXIT_CRITICAL: u8 = 2;
/// Any command: it failed.
pub const EXIT_FAILED: u8 = 1;
/// The configuration or the arguments are wrong (EX_USAGE).
pub const EXIT_CONFIG: u8 = 64;
/// Postgres cannot be reached or is not ready for us (EX_TEMPFAIL).
pub const EXIT_DATABASE: u8 = 75;

/// The failure of a command: the exit code for scripts and the error for operators.
#[derive(Debug)]
pub struct CliError {
    pub code: u8,
    pub error: Box<dyn Error + Send + Sync>,
}

impl CliError {
    pub fn new(code: u8, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code, error: error.into() }
    }

    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(EXIT_FAILED, error)
    }

    /// Prints the error with its causes and gives the exit code.
    pub fn report(self) -> ExitCode {
        eprintln!("outboxd: {}", chain(&*self.error));
        ExitCode::from(self.code)
    }
}

impl From<OperationError> for CliError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Store(error) => error.into(),
            OperationError::Refused(ref refusal) => match refusal.kind {
                RefusalKind::UnknownHandler | RefusalKind::UnknownAlert | RefusalKind::NeedsForce | RefusalKind::Invalid => {
                    Self::new(EXIT_CONFIG, error)
                }
                RefusalKind::NotFound | RefusalKind::NotNow | RefusalKind::Taken => Self::failed(error),
            },
        }
    }
}

impl From<crate::store::StoreError> for CliError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::new(EXIT_DATABASE, error)
    }
}
