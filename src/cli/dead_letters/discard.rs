//! `outboxd dead-letters discard`: what will not be delivered. Shows first what it is about to change and asks; the database changes
//! only what is still dead by then, so what is reported is what was done, not what was shown.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Serialize;
use uuid::Uuid;

use super::super::filter::{FilterArgs, Preview, SAMPLE};
use super::super::text::{as_json, plural};
use super::super::{CliError, EXIT_OK, Global, ask, print::print, session};
use crate::store;

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which")
        .args(["handler", "event_type", "key", "since", "until", "text", "group", "reason", "id", "all"])
        .required(true).multiple(true),
    after_help = "Examples:
  outboxd dead-letters discard --key order/42 --because 'order was cancelled by hand, see OPS-311'
  outboxd dead-letters discard --handler billing --reason gone --because 'receiver retired' --yes
  outboxd dead-letters discard --group 3f9a1c20b7d4e655 --because 'test orders' --dry-run

What is discarded is not delivered again, and retention may remove its event. A key that it held goes on. Who discarded it and why \
is kept in the audit."
)]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only this event; may be given several times
    #[arg(long, value_name = "UUID", num_args = 1..)]
    id: Vec<Uuid>,
    /// Every dead letter of every handler
    #[arg(long, conflicts_with_all = ["handler", "event_type", "key", "since", "until", "text", "group", "reason", "id"])]
    all: bool,
    /// Only show what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Why they need not be delivered, in your words; kept in the audit. May be left out where --reason says which ones are meant
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text, required_unless_present = "reason")]
    because: Option<String>,
}

#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    preview: Preview,
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<u64>,
}

pub(super) async fn run(args: DiscardArgs, global: &Global) -> Result<ExitCode, CliError> {
    let DiscardArgs { filter, id, all: _, dry_run, yes, because } = args;
    let because = because.or_else(|| filter.reason.as_ref().map(|reason| format!("failed with {reason}"))).unwrap_or_default();
    let session = session::open(global).await?;
    let filter = filter.resolve(&session.pool, id).await?;
    let counts = store::count_dead_letters(&session.pool, &filter).await?;
    let preview = Preview::new(dry_run, counts, store::list_dead_letters(&session.pool, &filter, SAMPLE).await?);
    let mut discarded = (!dry_run).then_some(0);
    if preview.goes_on("dead letter", "discard") {
        ask::confirm(&format!("Discard {} dead letter{} for good?", preview.matched, plural(preview.matched)), yes)?;
        let count = store::discard_dead_letters(&session.pool, &filter, &ask::actor(), &because).await?;
        eprintln!("discarded {count} dead letter{}", plural(count));
        discarded = Some(count);
    }
    if global.json {
        print(&as_json(&Changed { preview, discarded }))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}
