//! `outboxd dead-letters show`: everything that an operator needs to decide about one event. Changes nothing.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use uuid::Uuid;

use super::super::text::{
    SHOWN_BYTES, SHOWN_KEY_BYTES, as_json, bounded, describe_event, describe_moment, describe_reason, plain_table, printable,
    shorten,
};
use super::super::{CliError, EXIT_OK, Global, link, print::print, session};
use super::export::RedactPath;
use crate::domain::Reason;
use crate::operations::dead_letters::{self, Letter, LetterCommands, LetterDelivery};
use crate::operations::{parse_path, redact_json};
use crate::store::events::{Attempt, EventState};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outboxd dead-letters show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d
  outboxd dead-letters show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --handler billing --full
  outboxd dead-letters show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --redact customer.email card

Numbers are printed exactly as they were recorded. --json always has the whole payload.")]
pub(super) struct ShowArgs {
    /// Id of the event
    #[arg(value_name = "EVENT-ID")]
    id: Uuid,
    /// Only its state at this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Print the whole payload, not only its first 4 KiB
    #[arg(long)]
    full: bool,
    /// Hide this field of payload or headers, for example customer.card; * stands for any name
    #[arg(long, value_name = "PATH", value_parser = parse_path, num_args = 1..)]
    redact: Vec<RedactPath>,
    /// Print the address of the same page of the console
    #[arg(long)]
    link: bool,
}

pub(super) async fn run(args: ShowArgs, global: &Global) -> Result<ExitCode, CliError> {
    if args.link {
        link::print_link(global, &link::letter_path(args.id, args.handler.as_deref()), &[])?;
        return Ok(ExitCode::from(EXIT_OK));
    }
    let session = session::open(global).await?;
    let mut letter = dead_letters::show(&session.pool, args.id, args.handler.as_deref(), global.schema.as_deref()).await?;
    letter.event.payload = redact_json(&letter.event.payload, &args.redact);
    letter.event.headers = redact_json(&letter.event.headers, &args.redact);
    let room = if args.full { usize::MAX } else { SHOWN_BYTES };
    print(&if global.json { as_json(&letter) } else { describe(&letter, room) })?;
    Ok(ExitCode::from(EXIT_OK))
}

fn describe(letter: &Letter, room: usize) -> String {
    let mut text = describe_event(&letter.event, room);
    for delivery in &letter.deliveries {
        text.push('\n');
        text.push_str(&describe_delivery(delivery));
    }
    text
}

fn describe_delivery(letter: &LetterDelivery) -> String {
    let LetterDelivery { delivery, attempts_made, commands } = letter;
    let mut text = format!("handler    {}\n", printable(&delivery.handler));
    let since = delivery.handled_at.map(|at| format!(" since {}", describe_moment(at))).unwrap_or_default();
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<10} {value}").expect("a text takes any text");
    line("state", &format!("{}{since}", delivery.state));
    line("key", &bounded(&printable(delivery.key.as_deref().unwrap_or("-")), SHOWN_KEY_BYTES));
    line("reason", &describe_why(delivery));
    if let Some(detail) = &delivery.detail {
        line("detail", &bounded(&printable(detail), SHOWN_BYTES));
    }
    if let Some(due_at) = delivery.due_at {
        line("due", &describe_moment(due_at));
    }
    if let Some(replay) = delivery.replay {
        line("replay", &replay.to_string());
    }
    text.push_str(&describe_attempts(attempts_made, delivery.attempts.unwrap_or_default()));
    if let Some(LetterCommands { replay, discard, edit }) = commands {
        write!(text, "\n  {replay}\n  {discard}\n  {edit}\n").expect("a text takes any text");
    }
    text
}

/// The word, and the sentence that explains it.
fn describe_why(delivery: &EventState) -> String {
    let word = describe_reason(delivery.reason.as_deref(), delivery.status);
    let known = Reason::ALL.iter().find(|reason| Some(reason.as_str()) == delivery.reason.as_deref());
    known.map_or_else(|| word.clone(), |reason| format!("{word}: {}", reason.help()))
}

fn describe_attempts(attempts: &[Attempt], spent: i32) -> String {
    if attempts.is_empty() {
        return format!("attempts   {spent}, none in the history\n");
    }
    let mut table = plain_table(&["ATTEMPT", "AT", "OUTCOME", "REASON", "TOOK", "DETAIL"]);
    for attempt in attempts {
        let ambiguous = if attempt.ambiguous { ", may have arrived" } else { "" };
        table.add_row([
            attempt.attempt.to_string(),
            describe_moment(attempt.at),
            attempt.outcome.clone(),
            describe_reason(Some(&attempt.reason), attempt.status) + ambiguous,
            format!("{} ms", attempt.duration_ms),
            shorten(attempt.detail.as_deref().unwrap_or("-")),
        ]);
    }
    format!("attempts   {spent}\n\n{}\n", table.trim_fmt())
}
