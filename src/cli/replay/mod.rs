//! `outboxd replay` and `outboxd replays`: delivering once more what a person chose, and following, cancelling or resuming that.
//! The command freezes the set and then only watches; the relay does the work, so it may be left at any time.

mod manage;
mod progress;
mod start;

use std::process::ExitCode;

pub use manage::ReplaysArgs;
pub use start::ReplayArgs;

use super::{CliError, Global};

pub async fn run(args: ReplayArgs, global: &Global) -> Result<ExitCode, CliError> {
    start::run(args, global).await
}

pub async fn run_replays(args: ReplaysArgs, global: &Global) -> Result<ExitCode, CliError> {
    manage::run(args, global).await
}
