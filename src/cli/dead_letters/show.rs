//! `outboxd dead-letters show`: everything that a person needs to decide about one event. Changes nothing.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::json::{parse_path, redact_json};
use super::super::text::{
    SHOWN_BYTES, SHOWN_KEY_BYTES, as_json, bounded, describe_event, describe_moment, describe_reason, plain_table, printable,
    shell_word, shorten,
};
use super::super::{CliError, EXIT_OK, Global, ask, print::print, session};
use super::export::RedactPath;
use crate::domain::{DeliveryState, Reason};
use crate::store::events::{Attempt, Event, EventHistory, EventState, read_history};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outboxd dead-letters show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d
  outboxd dead-letters show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --handler billing --full
  outboxd dead-letters show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --redact customer.email card

Numbers are printed as they were recorded, however large. --json always has the whole payload.")]
pub(super) struct ShowArgs {
    /// Id of the event
    #[arg(value_name = "EVENT-ID")]
    id: Uuid,
    /// Only what became of it in this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// The whole payload, not only its first 4 KiB
    #[arg(long)]
    full: bool,
    /// Hide what stands here in payload or headers, for example customer.card; * stands for any name
    #[arg(long, value_name = "PATH", value_parser = parse_path, num_args = 1..)]
    redact: Vec<RedactPath>,
}

#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error("there is no event {0}; it never was, or retention has removed it")]
    NoEvent(Uuid),
    #[error("event {0} has no recorded delivery; it was not handled yet, or its success was not recorded")]
    NoDelivery(Uuid),
}

#[derive(Debug, Serialize)]
struct Shown {
    event: Event,
    deliveries: Vec<ShownDelivery>,
}

#[derive(Debug, Serialize)]
struct ShownDelivery {
    #[serde(flatten)]
    delivery: EventState,
    attempts_made: Vec<Attempt>,
    /// What a person can do; only for a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    commands: Option<Commands>,
}

#[derive(Debug, Serialize)]
struct Commands {
    replay: String,
    discard: String,
}

pub(super) async fn run(args: ShowArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    if let Some(handler) = &args.handler {
        ask::check_handler(&session.pool, handler).await?;
    }
    let history = read_history(&session.pool, args.id, args.handler.as_deref()).await?;
    let EventHistory { mut event, handlers, attempts } = history.ok_or_else(|| CliError::failed(ShowError::NoEvent(args.id)))?;
    event.payload = redact_json(&event.payload, &args.redact);
    event.headers = redact_json(&event.headers, &args.redact);
    let recorded = handlers.into_iter().filter(|delivery| delivery.attempts.is_some());
    let deliveries: Vec<ShownDelivery> = recorded.map(|delivery| shown(args.id, delivery, &attempts, global)).collect();
    if deliveries.is_empty() {
        return Err(CliError::failed(ShowError::NoDelivery(args.id)));
    }
    let shown = Shown { event, deliveries };
    let room = if args.full { usize::MAX } else { SHOWN_BYTES };
    print(&if global.json { as_json(&shown) } else { describe(&shown, room) })?;
    Ok(ExitCode::from(EXIT_OK))
}

fn shown(id: Uuid, delivery: EventState, attempts: &[Attempt], global: &Global) -> ShownDelivery {
    let is_its = |attempt: &&Attempt| attempt.handler == delivery.handler && attempt.partition == delivery.partition;
    let attempts_made = attempts.iter().filter(is_its).cloned().collect();
    let is_dead = delivery.state == DeliveryState::Dead.as_str();
    let commands = is_dead.then(|| commands(id, &delivery.handler, global));
    ShownDelivery { delivery, attempts_made, commands }
}

/// Ready to be pasted. The address of the database is left out: it holds a password.
fn commands(id: Uuid, handler: &str, global: &Global) -> Commands {
    let schema = global.schema.as_deref().map(|schema| format!(" --schema {schema}")).unwrap_or_default();
    let which = format!("--id {id} --handler {}{schema}", shell_word(handler));
    Commands {
        replay: format!("outboxd dead-letters replay {which}"),
        discard: format!("outboxd dead-letters discard {which} --because 'why it need not be delivered'"),
    }
}

fn describe(shown: &Shown, room: usize) -> String {
    let mut text = describe_event(&shown.event, room);
    for delivery in &shown.deliveries {
        text.push('\n');
        text.push_str(&describe_delivery(delivery));
    }
    text
}

fn describe_delivery(shown: &ShownDelivery) -> String {
    let ShownDelivery { delivery, attempts_made, commands } = shown;
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
    if let Some(Commands { replay, discard }) = commands {
        write!(text, "\n  {replay}\n  {discard}\n").expect("a text takes any text");
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
