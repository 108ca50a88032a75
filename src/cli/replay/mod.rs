//! `outboxd replay` and `outboxd replays`: start, follow, cancel and resume replays.
//! The command freezes the set of deliveries and then only watches; the relay delivers, so the command may end at any time.

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
