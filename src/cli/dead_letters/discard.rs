//! `outboxd dead-letters discard`: gives dead letters up for good. The command shows the dead letters and asks; the database changes
//! only those that were shown and are still dead, and reports their number.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Serialize;
use uuid::Uuid;

use super::super::filter::{FilterArgs, Previewed};
use super::super::text::{as_json, plural};
use super::super::{CliError, EXIT_OK, Global, ask, print::print, session};
use crate::operations::{Purpose, dead_letters, preview};
use crate::store::Acted;

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which")
        .args(["handler", "event_type", "key", "since", "until", "text", "group", "reason", "id", "all"])
        .required(true).multiple(true),
    after_help = "Examples:
  outboxd dead-letters discard --key order/42 --because 'order was cancelled by hand, see OPS-311'
  outboxd dead-letters discard --handler billing --reason gone --because 'receiver retired' --yes
  outboxd dead-letters discard --group 3f9a1c20b7d4e655 --because 'test orders' --dry-run

A discarded event is not delivered again, and retention may remove it. A key that waited for it continues. The audit keeps the operator \
and the reason."
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
    /// Show what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Why they need not be delivered, in your words; kept in the audit. Optional with --reason
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text, required_unless_present = "reason")]
    because: Option<String>,
}

#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    previewed: Previewed,
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<u64>,
}

pub(super) async fn run(args: DiscardArgs, global: &Global) -> Result<ExitCode, CliError> {
    let DiscardArgs { filter, id, all: _, dry_run, yes, because } = args;
    let because = because.or_else(|| filter.reason.as_ref().map(|reason| format!("failed with {reason}"))).unwrap_or_default();
    let session = session::open(global).await?;
    let preview = preview(&session.pool, &filter.which(id), Purpose::Discard, None).await?;
    let previewed = Previewed { dry_run, preview };
    let mut discarded = (!dry_run).then_some(0);
    if previewed.goes_on("dead letter", "discard") {
        let matched = previewed.preview.matched;
        ask::confirm(&format!("Discard {matched} dead letter{} for good?", plural(matched)), yes)?;
        let acted = dead_letters::discard(&session.pool, &ask::caller(), &previewed.preview.filter, None, &because).await?;
        let (Acted::Done(count) | Acted::Drifted(count)) = acted;
        eprintln!("discarded {count} dead letter{}", plural(count));
        discarded = Some(count);
    }
    if global.json {
        print(&as_json(&Changed { previewed, discarded }))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}
