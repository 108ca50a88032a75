//! `outboxd dead-letters replay` and `discard`: what a person decides. Both show first what they are about to change and ask;
//! the database changes only what is still dead by then, so what is reported is what was done, not what was shown.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Serialize;
use uuid::Uuid;

use super::super::session::{self, Session};
use super::super::text::{as_json, plural};
use super::super::{CliError, EXIT_CONFIG, EXIT_OK, Global, ask, print::print};
use super::{FilterArgs, describe_letters, reasons};
use crate::store::{self, DeadCount, DeadLetter, DeadLetterFilter, Replayed};

/// Dead letters shown before a person is asked.
const SAMPLE: u32 = 5;

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which").args(["handler", "event_type", "key", "reason", "id", "all"]).required(true).multiple(true),
    after_help = "Examples:
  outboxd dead-letters replay --handler billing --reason timeout --dry-run
  outboxd dead-letters replay --handler billing --type 'invoice.*'
  outboxd dead-letters replay --id 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --yes

Per handler and key the oldest is due at once and the others follow in order. The event keeps its id, and the history of its \
attempts stays. Two people who replay the same dead letters do not deliver them twice: the second finds fewer, or none."
)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those that failed for this reason, for example timeout or client_error
    #[arg(long, visible_alias = "failed-with", value_parser = reasons(), hide_possible_values = true)]
    reason: Option<String>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which").args(["handler", "event_type", "key", "failed_with", "id", "all"]).required(true).multiple(true),
    after_help = "Examples:
  outboxd dead-letters discard --key order/42 --reason 'order was cancelled by hand, see OPS-311'
  outboxd dead-letters discard --handler billing --failed-with gone --reason 'receiver retired' --yes

What is discarded is not delivered again, and retention may remove its event. A key that it held goes on. Who discarded it and why \
is kept in the audit."
)]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those that failed for this reason, for example timeout or client_error
    #[arg(long, value_name = "REASON", value_parser = reasons(), hide_possible_values = true)]
    failed_with: Option<String>,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Why they need not be delivered; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    reason: String,
}

#[derive(Debug, Args)]
struct ChoiceArgs {
    /// Only this event; may be given several times
    #[arg(long, value_name = "UUID", num_args = 1..)]
    id: Vec<Uuid>,
    /// Every dead letter of every handler
    #[arg(long, conflicts_with_all = ["handler", "event_type", "key", "id"])]
    all: bool,
    /// Only show what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// What a filter meets before anything is changed.
#[derive(Debug, Serialize)]
struct Preview {
    dry_run: bool,
    matched: u64,
    handlers: Vec<DeadCount>,
    sample: Vec<DeadLetter>,
}

#[derive(Debug, Serialize)]
struct Changed<T: Serialize> {
    #[serde(flatten)]
    preview: Preview,
    #[serde(flatten)]
    done: Option<T>,
}

#[derive(Debug, Serialize)]
struct Discarded {
    discarded: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("--all means every dead letter; leave out {0}")]
struct AllAndReason(&'static str);

pub(super) async fn replay(args: ReplayArgs, global: &Global) -> Result<ExitCode, CliError> {
    let ReplayArgs { filter, reason, choice } = args;
    check_all(choice.all, reason.as_deref(), "--reason")?;
    let session = session::open(global).await?;
    let filter = filter.into_filter(reason, choice.id);
    let preview = look(&session, &filter, choice.dry_run).await?;
    if !goes_on(&preview, "replay") {
        let done = (!choice.dry_run).then_some(Replayed { replay: None, replayed: 0, due: 0 });
        return finish(Changed { preview, done }, global);
    }
    ask::confirm(&format!("Replay {} dead letter{}?", preview.matched, plural(preview.matched)), choice.yes)?;
    let done = store::replay_dead_letters(&session.pool, &filter, &ask::actor(), Uuid::new_v4()).await?;
    eprintln!("{}", describe_replayed(done));
    finish(Changed { preview, done: Some(done) }, global)
}

pub(super) async fn discard(args: DiscardArgs, global: &Global) -> Result<ExitCode, CliError> {
    let DiscardArgs { filter, failed_with, choice, reason } = args;
    check_all(choice.all, failed_with.as_deref(), "--failed-with")?;
    let session = session::open(global).await?;
    let filter = filter.into_filter(failed_with, choice.id);
    let preview = look(&session, &filter, choice.dry_run).await?;
    if !goes_on(&preview, "discard") {
        let done = (!choice.dry_run).then_some(Discarded { discarded: 0 });
        return finish(Changed { preview, done }, global);
    }
    ask::confirm(&format!("Discard {} dead letter{} for good?", preview.matched, plural(preview.matched)), choice.yes)?;
    let discarded = store::discard_dead_letters(&session.pool, &filter, &ask::actor(), &reason).await?;
    eprintln!("discarded {discarded} dead letter{}", plural(discarded));
    finish(Changed { preview, done: Some(Discarded { discarded }) }, global)
}

/// The two commands name this filter differently, so the parser cannot say it for both.
fn check_all(all: bool, reason: Option<&str>, name: &'static str) -> Result<(), CliError> {
    if all && reason.is_some() {
        return Err(CliError::new(EXIT_CONFIG, AllAndReason(name)));
    }
    Ok(())
}

async fn look(session: &Session, filter: &DeadLetterFilter, dry_run: bool) -> Result<Preview, CliError> {
    if let Some(handler) = &filter.handler {
        ask::check_handler(&session.pool, handler).await?;
    }
    let handlers = store::count_dead_letters(&session.pool, filter).await?;
    let sample = store::list_dead_letters(&session.pool, filter, SAMPLE).await?;
    Ok(Preview { dry_run, matched: handlers.iter().map(|count| count.dead).sum(), handlers, sample })
}

/// Tells what is about to change, on standard error; whether there is anything to change.
fn goes_on(preview: &Preview, verb: &str) -> bool {
    if preview.matched == 0 {
        eprintln!("no dead letter matches; there is nothing to {verb}");
        return false;
    }
    eprint!("{}", describe_preview(preview));
    if preview.dry_run {
        eprintln!("dry run: nothing was changed");
    }
    !preview.dry_run
}

fn describe_preview(preview: &Preview) -> String {
    let per_handler: Vec<String> = preview.handlers.iter().map(|count| format!("{} of {}", count.dead, count.handler)).collect();
    let shown = preview.sample.len() as u64;
    let which = if shown < preview.matched { format!("; the newest {shown}") } else { String::new() };
    let letters = describe_letters(&preview.sample);
    format!("{} dead letter{} ({}){which}:\n\n{letters}\n", preview.matched, plural(preview.matched), per_handler.join(", "))
}

fn describe_replayed(done: Replayed) -> String {
    let Replayed { replay: Some(replay), replayed, due } = done else {
        return "nothing was left to replay; somebody else was faster".to_owned();
    };
    let waiting = match replayed - due {
        0 => String::new(),
        waiting => format!(", {waiting} behind an earlier one of the same key"),
    };
    format!("replayed {replayed} dead letter{}: {due} due now{waiting}; replay {replay}", plural(replayed))
}

/// Words have gone to standard error; the document is for scripts.
fn finish<T: Serialize>(changed: Changed<T>, global: &Global) -> Result<ExitCode, CliError> {
    if global.json {
        print(&as_json(&changed))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

/// A reason of blanks is none.
pub(in crate::cli) fn parse_text(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() { Err("expected some words about why") } else { Ok(text.to_owned()) }
}
