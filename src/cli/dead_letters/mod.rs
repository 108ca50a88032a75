//! `outboxd dead-letters`: events that the retry policy gave up on, and the operator's decisions about them.
//! Works while the relay is down: every change happens in the database, and a sleeping relay is woken.

mod discard;
mod edit;
mod export;
mod groups;
mod list;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{CliError, Global, replay};

/// List, group, show, export, replay and discard dead letters
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Group dead letters by handler and failure, the largest group first
    Groups(groups::GroupsArgs),
    /// Write a note on a group for other operators
    Note(groups::NoteArgs),
    /// List dead letters, the newest first
    List(list::ListArgs),
    /// Show one event with its payload and every attempt
    Show(show::ShowArgs),
    /// Print dead letters with payload and attempts, one JSON document per line
    Export(export::ExportArgs),
    /// Deliver dead letters once more, in the order of their keys; the same as `outboxd replay`
    Replay(replay::ReplayArgs),
    /// Record a dead letter with a corrected payload as a new event for its handler
    Edit(edit::EditArgs),
    /// Discard dead letters for good, with a reason for the audit
    Discard(discard::DiscardArgs),
}

pub async fn run(args: DeadLettersArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        DeadLettersCommand::Groups(args) => groups::run(args, global).await,
        DeadLettersCommand::Note(args) => groups::note(args, global).await,
        DeadLettersCommand::List(args) => list::run(args, global).await,
        DeadLettersCommand::Show(args) => show::run(args, global).await,
        DeadLettersCommand::Export(args) => export::run(args, global).await,
        DeadLettersCommand::Replay(args) => replay::run(args, global).await,
        DeadLettersCommand::Edit(args) => edit::run(args, global).await,
        DeadLettersCommand::Discard(args) => discard::run(args, global).await,
    }
}
