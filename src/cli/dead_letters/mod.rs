//! `outboxd dead-letters`: what policy gave up on, and what a person decides about it.
//! Works while the relay is down: everything happens in the database, and a relay that sleeps is woken.

mod change;
mod list;
mod show;

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use uuid::Uuid;

pub(super) use change::parse_text;

use super::print::printable;
use super::{CliError, Global};
use crate::domain::{Reason, Timestamp};
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

/// The document for scripts. Not by way of `serde_json::Value`, which would read the numbers of a payload.
fn as_json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("texts and numbers have a JSON form") + "\n"
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

fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    table
}

fn describe_reason(reason: Option<&str>, status: Option<i32>) -> String {
    match (reason, status) {
        (Some(reason), Some(status)) => format!("{reason} ({status})"),
        (reason, _) => reason.unwrap_or("-").to_owned(),
    }
}

/// To the second: nobody decides by less.
fn describe_moment(moment: Timestamp) -> String {
    let text = moment.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// The first line of what a receiver said, as far as a table has room for it.
fn shorten(text: &str) -> String {
    const ROOM: usize = 80;
    let line = printable(text.trim().lines().next().unwrap_or_default());
    match line.char_indices().nth(ROOM) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_one_short_line_that_steers_no_terminal() {
        assert_eq!(shorten(" no such\x1b[31m order\nat line 1"), "no such\u{fffd}[31m order");
        assert_eq!(shorten(&"ä".repeat(90)), format!("{}...", "ä".repeat(80)));
        assert_eq!(shorten(""), "");
    }

    #[test]
    fn a_moment_is_told_to_the_second() {
        assert_eq!(describe_moment(Timestamp::from_micros(1_700_000_000_123_456)), "2023-11-14T22:13:20Z");
    }
}
