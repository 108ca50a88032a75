//! `outboxd dead-letters`: what policy gave up on, and what a person decides about it.
//! Works while the relay is down: everything happens in the database, and a relay that sleeps is woken.

mod change;
mod list;
mod show;

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use uuid::Uuid;

pub(super) use change::parse_text;

use super::text::{describe_moment, describe_reason, plain_table, printable, shorten};
use super::{CliError, Global};
use crate::domain::Reason;
use crate::store::{DeadLetter, DeadLetterFilter};

/// List, show, replay and discard dead letters
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List dead letters, the newest first
    List(list::ListArgs),
    /// Show one event with its payload, its failures and every attempt
    Show(show::ShowArgs),
    /// Deliver dead letters once more, in the order of their keys
    Replay(change::ReplayArgs),
    /// Give dead letters up for good, with a reason that is kept
    Discard(change::DiscardArgs),
}

/// Which dead letters; everything that is given must match.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Only of this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only events of this type; * stands for any characters
    #[arg(long = "type", value_name = "GLOB")]
    event_type: Option<String>,
    /// Only of this ordering key, for example order/42
    #[arg(long)]
    key: Option<String>,
}

impl FilterArgs {
    fn into_filter(self, reason: Option<String>, ids: Vec<Uuid>) -> DeadLetterFilter {
        let Self { handler, event_type, key } = self;
        DeadLetterFilter { handler, event_type, key, reason, ids }
    }
}

pub async fn run(args: DeadLettersArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        DeadLettersCommand::List(args) => list::run(args, global).await,
        DeadLettersCommand::Show(args) => show::run(args, global).await,
        DeadLettersCommand::Replay(args) => change::replay(args, global).await,
        DeadLettersCommand::Discard(args) => change::discard(args, global).await,
    }
}

/// The closed set of reasons; a word that is not in it would match nothing.
fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.as_str()))
}

fn describe_letters(letters: &[DeadLetter]) -> String {
    let mut table = plain_table(&["EVENT", "TYPE", "HANDLER", "KEY", "REASON", "ATTEMPTS", "DEAD SINCE", "DETAIL"]);
    for letter in letters {
        table.add_row([
            letter.id.to_string(),
            printable(&letter.event_type),
            printable(&letter.handler),
            printable(letter.key.as_deref().unwrap_or("-")),
            describe_reason(letter.reason.as_deref(), letter.status),
            letter.attempts.to_string(),
            letter.dead_since.map_or_else(|| "-".to_owned(), describe_moment),
            shorten(letter.detail.as_deref().unwrap_or("-")),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}
